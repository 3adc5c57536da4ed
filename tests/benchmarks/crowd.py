"""The processes of the workload with 1,000 subscriptions: a steady publisher, and readers of three kinds.

*Ticks* are single messages on many topics, each with the time at which it was due; *bulk* is batches of 1,000.
"""

import struct
from time import perf_counter

import gevent
from gevent.event import Event

from zstreampub.message import Batch

from .lean import LeanClient, LeanSubscription
from .payloads import BATCH, BYTES, CYCLE, Sink, cycle

TICK_TOPICS = 80
TICKS_PER_S = 400
BULKS_PER_S = 5
_BULK = "bulk"
_DUE = struct.Struct(">Qd")
_LATE_S = 60


def publish_steadily(link, endpoint, seconds):
    """Publish ticks and bulk at their rates for *seconds*; never wait for one before the next is due."""
    client = LeanClient(endpoint)
    client.call("about")
    waiting = set()
    errors = []

    def post(name, *args):
        def on_event(event, value):
            waiting.discard(id)
            if event != "OK":
                errors.append(value)
        id = client.post(name, args, on_event)
        waiting.add(id)

    link.ready()
    link.go()
    began = perf_counter()
    bulk = gevent.spawn(_at_rate, BULKS_PER_S, seconds, began, lambda number, _: post("append", [_bulk(number)]))
    _at_rate(TICKS_PER_S, seconds, began, lambda number, due: post(
        "publish", f"tick.{number % TICK_TOPICS}", _DUE.pack(number, due).ljust(BYTES)))
    bulk.get()
    while waiting:
        gevent.sleep(0.01)
    if errors:
        raise RuntimeError(f"{len(errors)} publishes failed: {errors[0]}")
    return {"began": began, "ended": perf_counter()}


def _at_rate(rate, seconds, began, publish):
    for number in range(int(rate * seconds)):
        due = began + number / rate
        gevent.sleep(max(due - perf_counter(), 0))
        publish(number, due)


def _bulk(number):
    at = number % CYCLE * BATCH
    return Batch.of(_BULK, cycle(0)[at:at + BATCH]).packed


def read_ticks(link, endpoint, subscriptions, seconds):
    """Fast readers of one tick topic each. Returns ``(due, latency)`` of every delivery."""
    client = LeanClient(endpoint)
    wanted = sum(len(range(at % TICK_TOPICS, int(TICKS_PER_S * seconds), TICK_TOPICS)) for at in range(subscriptions))
    seen, done = [], Event()

    def reader(topic):
        following = topic

        def take(batch):
            nonlocal following
            now = perf_counter()
            for payload in batch.payloads:
                number, due = _DUE.unpack_from(payload)
                if number != following:
                    raise RuntimeError(f"tick {number} came where {following} belongs")
                following += TICK_TOPICS
                seen.append((due, now - due))
            if len(seen) == wanted:
                done.set()
        return LeanSubscription(client, f"tick.{topic}", take)

    all_of_them = _open(link, [reader(at % TICK_TOPICS) for at in range(subscriptions)])
    began = perf_counter()
    _until(done, all_of_them, seconds)
    return {"began": began, "ended": perf_counter(), "seen": seen}


def read_bulk(link, endpoint, subscriptions, seconds):
    """Readers of all the bulk; this is the process that is stopped and goes on later."""
    client = LeanClient(endpoint)
    sinks = [Sink([0]) for _ in range(subscriptions)]
    wanted = int(BULKS_PER_S * seconds) * BATCH
    done = Event()

    def reader(sink):
        def take(batch):
            sink.take_run(batch.first, batch.payloads)
            if all(one.messages == wanted for one in sinks):
                done.set()
        return LeanSubscription(client, _BULK, take)

    all_of_them = _open(link, [reader(sink) for sink in sinks])
    began = perf_counter()
    _until(done, all_of_them, seconds)
    return {"began": began, "ended": perf_counter()}


def read_bulk_slowly(link, endpoint, subscriptions, seconds):
    """Readers of the bulk that pause after each item, up to twice as long as they may; order is checked."""
    client = LeanClient(endpoint)
    all_of_them = []
    for at in range(subscriptions):
        sink = Sink([0])
        pause_s = 2 * at / subscriptions / BULKS_PER_S
        all_of_them.append(LeanSubscription(client, _BULK, lambda batch, sink=sink: sink.take_run(
            batch.first, batch.payloads), pause_s))
    _open(link, all_of_them)
    began = perf_counter()
    _until(Event(), all_of_them, seconds, must=False)
    return {"began": began, "ended": perf_counter()}


def _open(link, subscriptions):
    for one in subscriptions:
        one.greeting.get(timeout=_LATE_S)
    link.ready()
    return subscriptions


def _until(done, subscriptions, seconds, must=True):
    """Wait for *done*; raise if a subscription ended, or (*must*) if it takes too long."""
    complete = done.wait(seconds + (_LATE_S if must else 0))
    for one in subscriptions:
        if one.ended.ready():
            raise RuntimeError(f"a subscription ended: {one.ended.get()}")
    if must and not complete:
        raise RuntimeError("not everything came in time")
