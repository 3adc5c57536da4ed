"""The reference: the plain recipe for pub-sub on a stock zerorpc server. Nothing is stored, nothing is bounded.

A queue for each subscriber, a stream that drains it: what one finds when one searches for it.
"""

import time
from time import perf_counter

import gevent
import zerorpc
from gevent.queue import Queue

from .actors import TOPIC, percentiles, timed
from .payloads import BATCH, CYCLE, WRAP, Sink, cycle, payload

_TIMEOUT_S = 300


class Recipe:
    """publish, publish_many and subscribe, as plain as can be."""

    def __init__(self):
        self._queues = set()
        self._next = 0

    def publish(self, topic, payload):
        return self.publish_many(topic, [payload])[0]

    def publish_many(self, topic, payloads):
        first = self._next
        self._next += len(payloads)
        for queue in self._queues:
            for at, one in enumerate(payloads, first):
                queue.put({"topic": topic, "offset": at, "time": time.time(), "payload": one})
        return first, self._next

    @zerorpc.stream
    def subscribe(self, topic):
        queue = Queue()
        self._queues.add(queue)
        try:
            yield {"control": "subscribed"}
            yield from queue
        finally:
            self._queues.discard(queue)


def serve(link, endpoint):
    server = zerorpc.Server(Recipe())
    server.bind(endpoint)
    gevent.spawn(server.run)
    link.ready()
    gevent.get_hub().join()


def publish_batches(link, endpoint, source, batches):
    """Publish *batches* with a stock client, a few calls at a time, to either server."""
    client = zerorpc.Client(endpoint, timeout=_TIMEOUT_S)
    payloads = cycle(source)
    turns = iter(range(batches))

    def caller(_):
        for turn in turns:
            at = turn % CYCLE * BATCH
            client.publish_many(TOPIC, payloads[at:at + BATCH])

    link.ready()
    link.go()
    return timed(caller, min(4, batches))


def publish_singles(link, endpoint, source, callers, messages):
    """Publish single messages with a stock client, *callers* at a time, to either server."""
    client = zerorpc.Client(endpoint, timeout=_TIMEOUT_S)
    latencies = []

    def caller(number):
        for at in range(messages // callers):
            began = perf_counter()
            client.publish(TOPIC, payload(source, number, at))
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    return {**timed(caller, callers), "latencies": percentiles(latencies)}


def subscribe(link, endpoint, messages):
    """Read *messages* as maps with a stock client, from either server, and check every one."""
    sink = Sink()
    client = zerorpc.Client(endpoint, timeout=_TIMEOUT_S)
    stream = client.subscribe(TOPIC)
    next(stream)    # the greeting
    link.ready()
    began = None
    for message in stream:
        if "control" in message:
            raise RuntimeError(f"the stream says {message}")
        began = began or perf_counter()
        sink.take_any([message["payload"]], WRAP)
        if sink.messages == messages:
            return {"began": began, "ended": perf_counter()}
    raise RuntimeError(f"the stream ended after {sink.messages} messages")
