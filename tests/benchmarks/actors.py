"""What the client processes of the server under test do (see stage.py for what an actor is)."""

from time import perf_counter

import gevent
from gevent.event import Event

from zstreampub.message import Batch

from .lean import LeanClient, LeanSubscription
from .payloads import BATCH, CYCLE, Sink, cycle, payload

TOPIC = "bench.mark"
_IN_FLIGHT = 8      # batches
_LATE_S = 240


def publish_batches(link, endpoint, source, batches):
    """Publish *batches* of 1,000, packed here, a few in flight."""
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
    client = LeanClient(endpoint)
    client.call("about")
    latencies = []

    def caller(number):
        for at in range(messages // callers):
            began = perf_counter()
            client.call("publish", TOPIC, payload(source, number, at))
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    return {**timed(caller, callers), "latencies": percentiles(latencies)}


def subscribe_batches(link, endpoint, sources, messages, start="new"):
    """Read *messages* in batch form, decode and check every one."""
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

    if start == "earliest":     # a replay begins with the call
        link.ready()
        link.go()
        times.append(perf_counter())
    subscription = LeanSubscription(client, TOPIC, take, start=start)
    if start != "earliest":
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
