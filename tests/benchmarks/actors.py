"""What the client processes of the server under test do (see stage.py for what an actor is)."""

from functools import partial
from time import perf_counter

import gevent
from gevent.event import Event

import zstreampub
from zstreampub.message import Batch

from .lean import LeanClient, LeanSubscription
from .payloads import BATCH, CYCLE, Sink, cycle, payload

TOPIC = "bench.mark"
_IN_FLIGHT = 8      # batches
_LATE_S = 60


def publish_batches(link, endpoint, source, batches):
    """Publish *batches* of 1,000, a few callers at a time."""
    client = zstreampub.Client(endpoint)
    client.about()
    payloads = cycle(source)
    turns = iter(range(batches))

    def caller(_):
        for turn in turns:
            at = turn % CYCLE * BATCH
            client.publish_many(TOPIC, payloads[at:at + BATCH])

    link.ready()
    link.go()
    return timed(caller, min(_IN_FLIGHT, batches))


def publish_batches_lean(link, endpoint, source, batches):
    """The same with as little client as can be."""
    client = LeanClient(endpoint)
    client.call("about")
    payloads = cycle(source)
    turns = iter(range(batches))

    def caller(_):
        for turn in turns:
            at = turn % CYCLE * BATCH
            client.call("append", [Batch.of(TOPIC, payloads[at:at + BATCH]).packed])

    link.ready()
    link.go()
    return timed(caller, min(_IN_FLIGHT, batches))


def publish_singles(link, endpoint, source, callers, messages):
    """Publish single messages, *callers* at a time, each waiting for its answer."""
    client = zstreampub.Client(endpoint)
    client.about()
    return _publish_singles(link, client.publish, source, callers, messages)


def publish_singles_lean(link, endpoint, source, callers, messages):
    """The same with a request for each message, as any zerorpc client sends it."""
    client = LeanClient(endpoint)
    client.call("about")
    return _publish_singles(link, partial(client.call, "publish"), source, callers, messages)


def _publish_singles(link, publish, source, callers, messages):
    latencies = []

    def caller(number):
        for at in range(messages // callers):
            began = perf_counter()
            publish(TOPIC, payload(source, number, at))
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    return {**timed(caller, callers), "latencies": percentiles(latencies)}


def subscribe_batches(link, endpoint, sources, messages, start="new"):
    """Read *messages* in batches, decode and check every one."""
    client = zstreampub.Client(endpoint)
    sink = Sink(sources)
    began = None
    if start == "earliest":     # a replay begins with the call
        client.about()
        link.ready()
        link.go()
        began = perf_counter()
    subscription = client.subscribe(TOPIC, start=start, reconnect=False)
    if start != "earliest":
        link.ready()
    for batch in subscription.batches():
        began = began or perf_counter()
        sink.take_run(batch.first, batch.payloads)
        if sink.messages >= messages:
            break
    if sink.messages != messages:
        raise RuntimeError(f"{sink.messages} messages came, {messages} were published")
    return {"began": began, "ended": perf_counter()}


def subscribe_batches_lean(link, endpoint, sources, messages):
    """The same for new messages, with as little client as can be."""
    client = LeanClient(endpoint)
    sink = Sink(sources)
    done = Event()
    times = []

    def take(batch):
        if not times:
            times.append(perf_counter())
        sink.take_run(batch.first, batch.payloads)
        if sink.messages >= messages:
            done.set()

    subscription = LeanSubscription(client, TOPIC, take)
    subscription.greeting.get(timeout=_LATE_S)
    link.ready()
    _wait(done, subscription)
    if sink.messages != messages:
        raise RuntimeError(f"{sink.messages} messages came, {messages} were published")
    return {"began": times[0], "ended": perf_counter()}


def check_log(link, endpoint, messages, wrap=None):
    """Read the whole log and check that it has *messages*, each once, in the order of its caller."""
    sink = Sink()
    client = LeanClient(endpoint)
    subscription = LeanSubscription(client, TOPIC, lambda batch: sink.take_any(batch.payloads, wrap),
                                    start="earliest", until="end")
    link.ready()
    _wait(None, subscription)
    if sink.messages != messages:
        raise RuntimeError(f"{sink.messages} messages in the log, {messages} were answered")
    return {"messages": sink.messages}


def percentiles(seconds):
    """Return p50 and p99 of *seconds*, in microseconds."""
    ordered = sorted(seconds)
    return {"p50_us": ordered[len(ordered) // 2] * 1e6, "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6}


def _wait(done, subscription):
    """Wait for *done*, or for the normal end of the subscription."""
    waiting = [subscription.ended] if done is None else [done, subscription.ended]
    if not gevent.wait(waiting, timeout=_LATE_S, count=1):
        raise RuntimeError("not everything came in time")
    if subscription.ended.ready() and subscription.ended.get() is not None:
        raise RuntimeError(f"the subscription ended: {subscription.ended.get()}")


def timed(caller, count):
    """Run ``caller(number)`` in *count* greenlets; return when they began and ended."""
    began = perf_counter()
    gevent.joinall([gevent.spawn(caller, number) for number in range(count)], raise_error=True)
    return {"began": began, "ended": perf_counter()}
