"""What the client processes of the server under test do (see stage.py for what an actor is)."""

from functools import partial
from time import perf_counter

import gevent
from gevent.socket import wait_read

import zstreampub
from zstreampub.cli.benches.pace import Beat
from zstreampub.message import Batch

from .lean import LeanClient, LeanSubscription
from .payloads import BATCH, BYTES, OutOfOrder, Sink, batch_of, cycle, due_payload, finished, payload, slice_of

TOPIC = "bench.mark"
_IN_FLIGHT = 8      # batches
_LATE_S = 60


def publish_batches(link, endpoint, source, batches, size=BYTES, length=BATCH, in_flight=_IN_FLIGHT):
    """Publish *batches*, *in_flight* at a time."""
    client = zstreampub.Client(endpoint)
    client.about()
    return play_batches(link, client.publish_many, source, batches, size, length, in_flight)


def play_batches(link, publish_many, source, batches, size, length, in_flight):
    """Call ``publish_many(topic, payloads)`` for *batches*, *in_flight* greenlets at a time."""
    cycle(source, size)
    turns = iter(range(batches))
    latencies = []

    def caller(_):
        for turn in turns:
            payloads = batch_of(source, turn, size, length)
            began = perf_counter()
            publish_many(TOPIC, payloads)
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    return {**timed(caller, min(in_flight, batches)), "latencies": percentiles(latencies)}


def publish_batches_in_turn(link, endpoint, source, batches, size=BYTES):
    """The same, each when the one before is answered."""
    return publish_batches(link, endpoint, source, batches, size, in_flight=1)


def publish_batches_lean(link, endpoint, source, batches):
    """The same with as little client as can be."""
    client = LeanClient(endpoint)
    client.call("about")

    def publish_many(topic, payloads):
        client.call("append", [Batch.of(topic, payloads).packed])

    return play_batches(link, publish_many, source, batches, BYTES, BATCH, _IN_FLIGHT)


def publish_singles(link, endpoint, source, callers, messages):
    """Publish single messages, *callers* at a time, each waiting for its answer."""
    client = zstreampub.Client(endpoint)
    client.about()
    return play_singles(link, client.publish, source, callers, messages)


def publish_singles_lean(link, endpoint, source, callers, messages):
    """The same with a request for each message, as any zerorpc client sends it."""
    client = LeanClient(endpoint)
    client.call("about")
    return play_singles(link, partial(client.call, "publish"), source, callers, messages)


def play_singles(link, publish, source, callers, messages):
    """Call ``publish(topic, payload)`` for *messages*, *callers* greenlets at a time."""
    latencies = []

    def caller(number):
        for at in range(messages // callers):
            began = perf_counter()
            publish(TOPIC, payload(source, number, at))
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    return {**timed(caller, callers), "latencies": percentiles(latencies)}


def publish_futures(link, endpoint, source, window, messages):
    """Publish single messages with a producer, *window* at a time as in a pipeline; without one as it takes them."""
    client = zstreampub.Client(endpoint)
    client.about()
    latencies = []
    link.ready()
    link.go()
    began = perf_counter()
    with client.producer() as producer:
        for first in range(0, messages, window or messages):
            start = perf_counter()
            for number in range(first, min(first + (window or messages), messages)):
                producer.publish(TOPIC, payload(source, 0, number))
            producer.flush()
            latencies.append(perf_counter() - start)
    return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies)}


def publish_steadily(link, endpoint, rate, messages):
    """Publish at a steady rate; never wait for one message before the next is due."""
    client = zstreampub.Client(endpoint)
    client.about()
    with client.producer(linger_s=0) as producer:
        return play_steadily(link, producer.publish, producer.flush, rate, messages)


def play_steadily(link, publish, finish, rate, messages):
    """Call ``publish(topic, payload)``, which waits for nothing, for each of *messages* when due; then ``finish()``.

    Nothing of what is answered may be kept: Python's collector would look at it again and again, 30 ms at a time.
    """
    beat = Beat(rate, messages)
    link.ready()
    link.go()
    began, number = beat.start(), 0
    while number < messages:
        wait_read(beat.fileno())
        beat.take()
        while number < beat.taken:
            publish(TOPIC, due_payload(number, beat.due(number)))
            number += 1
    finish()
    return {"began": began, "ended": perf_counter()}


def subscribe(link, endpoint, readers, messages, make_sink, start="new"):
    """*readers* clients, each with a subscription of its own: read *messages* in batches and check every one."""
    clients = [zstreampub.Client(endpoint) for _ in range(readers)]
    sinks = [make_sink() for _ in clients]
    for client in clients:
        client.about()
    replays = start == "earliest"
    if replays:     # it begins with the call
        link.ready()
        link.go()
    began = perf_counter()
    subscriptions = [client.subscribe(TOPIC, start=start, reconnect=False) for client in clients]
    if not replays:
        link.ready()

    def read(at):
        sink = sinks[at]
        for batch in subscriptions[at].batches():
            sink.take(batch.payloads)
            if sink.messages >= messages:
                return

    timed(read, readers)
    return finished(sinks, began, messages)


def subscribe_losing(link, endpoint, messages, size, policy):
    """Read *messages* of a log that has no others; all that do not come must be told. Returns how many ``lost``."""
    client = zstreampub.Client(endpoint)
    gaps = []
    subscription = client.subscribe(TOPIC, policy=policy, until=messages, on_gap=lambda gap: gaps.append(gap["count"]))
    cycle(0, size)
    link.ready()
    began, came, next = perf_counter(), 0, 0
    for batch in subscription.batches():
        if batch.first < next or batch.payloads != slice_of(0, batch.first, batch.count, size):
            raise OutOfOrder(f"the messages at {batch.first} are not those that were published there")
        next = batch.next
        came += batch.count
    lost = sum(gaps) + subscription.conflated
    if came + lost != messages:
        raise OutOfOrder(f"{came} messages came, {lost} were told to be lost, of {messages}")
    return {"began": began, "ended": perf_counter(), "lost": lost}


def start(stage):
    """Start a server; return its endpoint."""
    return stage.serve()


def check(stage, endpoint, messages, wrap=None):
    """Fail unless the log has *messages*, each once, in the order of its caller; numbers start again at *wrap*."""
    stage.start(check_log, endpoint, messages, wrap).result()


def check_log(link, endpoint, messages, wrap=None):
    """Read the whole log and check that it has *messages*, each once, in the order of its caller."""
    sink = Sink()
    client = LeanClient(endpoint)
    subscription = LeanSubscription(client, TOPIC, lambda batch: sink.take_any(batch.payloads, wrap),
                                    start="earliest", until="end")
    link.ready()
    _wait(subscription)
    if sink.messages != messages:
        raise RuntimeError(f"{sink.messages} messages in the log, {messages} were answered")
    return {"messages": sink.messages}


def percentiles(seconds):
    """Return p50, p99 and p99.9 of *seconds*, in microseconds."""
    ordered = sorted(seconds)
    return {name: ordered[int(len(ordered) * share)] * 1e6
            for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))}


def _wait(subscription):
    """Wait for the normal end of the subscription."""
    if not subscription.ended.wait(_LATE_S) and not subscription.ended.ready():
        raise RuntimeError("not everything came in time")
    if subscription.ended.get() is not None:
        raise RuntimeError(f"the subscription ended: {subscription.ended.get()}")


def timed(caller, count):
    """Run ``caller(number)`` in *count* greenlets; return when they began and ended."""
    began = perf_counter()
    gevent.joinall([gevent.spawn(caller, number) for number in range(count)], raise_error=True)
    return {"began": began, "ended": perf_counter()}
