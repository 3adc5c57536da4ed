"""The reference: the plain recipe for pub-sub on a stock zerorpc server. Nothing is bounded.

A queue for each subscriber, a stream that drains it: what one finds when one searches for it. Nothing is stored,
or, as one would add that, each call commits its messages to LMDB before they go on.
"""

import time
from functools import partial
from time import perf_counter

import gevent
import lmdb
import zerorpc
from gevent.pool import Group
from gevent.queue import Queue

from .actors import TOPIC, play_batches, play_singles, play_steadily, timed
from .payloads import BATCH, BYTES, finished
from .stage import Failed, ask, free_endpoint

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


class DurableRecipe(Recipe):
    """The same, with a transaction and an fsync for each call."""

    def __init__(self, folder):
        super().__init__()
        self._environment = lmdb.open(folder, map_size=4 << 30)

    def publish_many(self, topic, payloads):
        with self._environment.begin(write=True) as transaction:
            records = enumerate(payloads, self._next)
            transaction.cursor().putmulti([(at.to_bytes(8, "big"), one) for at, one in records], append=True)
        return super().publish_many(topic, payloads)

    def stored(self):
        """Return how many messages are in LMDB."""
        return self._environment.stat()["entries"]


def serve(link, endpoint, folder=None):
    """Serve the recipe, with LMDB in *folder* if one is given."""
    server = zerorpc.Server(Recipe() if folder is None else DurableRecipe(folder))
    server.bind(endpoint)
    gevent.spawn(server.run)
    link.ready()
    gevent.get_hub().join()


def start(stage):
    """Start a server; return its endpoint."""
    endpoint = free_endpoint()
    stage.start_server(serve, endpoint)
    return endpoint


def start_durable(stage):
    """Start a server with LMDB; return its endpoint."""
    endpoint = free_endpoint()
    stage.start_server(serve, endpoint, stage.folder)
    return endpoint


def check_nothing(stage, endpoint, messages, wrap=None):
    """Nothing is stored, so there is nothing to look at."""


def check_durable(stage, endpoint, messages, wrap=None):
    """Fail unless *messages* are stored."""
    found = ask(endpoint, "stored")
    if found != messages:
        raise Failed(f"{found} messages in LMDB, {messages} were answered")


def publish_batches(link, endpoint, source, batches, size=BYTES, length=BATCH, in_flight=4):
    """Publish *batches* with a stock client, *in_flight* calls at a time, to either server."""
    client = zerorpc.Client(endpoint, timeout=_TIMEOUT_S)
    return play_batches(link, client.publish_many, source, batches, size, length, in_flight)


def publish_singles(link, endpoint, source, callers, messages):
    """Publish single messages with a stock client, *callers* at a time, to either server."""
    client = zerorpc.Client(endpoint, timeout=_TIMEOUT_S)
    return play_singles(link, client.publish, source, callers, messages)


def publish_steadily(link, endpoint, rate, messages):
    """Publish at a steady rate with a stock client; never wait for one message before the next is due."""
    client = zerorpc.Client(endpoint, timeout=_TIMEOUT_S)
    calls = Group()
    publish, finish = partial(calls.spawn, client.publish), partial(calls.join, raise_error=True)
    return play_steadily(link, publish, finish, rate, messages)


def subscribe(link, endpoint, readers, messages, make_sink):
    """*readers* stock clients: read *messages* as maps, from either server, and check every one."""
    sinks = [make_sink() for _ in range(readers)]
    streams = [zerorpc.Client(endpoint, timeout=_TIMEOUT_S).subscribe(TOPIC) for _ in sinks]
    for stream in streams:
        next(stream)    # the greeting
    link.ready()
    began = perf_counter()

    def read(at):
        sink = sinks[at]
        for message in streams[at]:
            if "control" in message:
                raise RuntimeError(f"the stream says {message}")
            sink.take_one(message["payload"])
            if sink.messages == messages:
                return

    timed(read, readers)
    return finished(sinks, began, messages)
