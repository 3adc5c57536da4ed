"""The processes of the workload that asks how cost grows: single messages, and subscriptions that check them."""

from time import perf_counter

import gevent
from gevent.event import Event

from zstreampub.message import Batch

from .lean import LeanClient, LeanSubscription
from .stage import Caller

_IN_FLIGHT = 16
_BATCHES = 1_000    # in one call
_LATE_S = 60


def topic_name(number):
    return f"growth.{number}"


def publish_calls(link, endpoint, topics, size, messages):
    """Publish *messages* of *size* bytes to each of *topics* in turn, a call each; each topic has one before that."""
    names, payload = [topic_name(number) for number in range(topics)], bytes(size)
    with Caller(endpoint) as caller:
        for at in range(0, topics, _BATCHES):
            caller.post("append", [[Batch.of(name, [payload]).packed for name in names[at:at + _BATCHES]]])
        caller.wait(0)
        link.ready()
        link.go()
        began = perf_counter()
        _call_all(caller, names, payload, messages)
    return {"began": began, "ended": perf_counter()}


def _call_all(caller, names, payload, messages):
    for number in range(messages):
        caller.post("publish", (names[number % len(names)], payload))
        caller.wait(_IN_FLIGHT - 1)
    caller.wait(0)


def read_all(link, endpoint, subscriptions, topics, messages):
    """*subscriptions*, each to one of *topics* in turn; those to the first must get *messages*, the others none."""
    client, done = LeanClient(endpoint), Event()
    came = [0] * subscriptions
    nexts = [0] * subscriptions
    wanted = [0 if number % topics else messages for number in range(subscriptions)]

    def reader(number):
        def take(batch):
            if batch.first < nexts[number]:
                raise RuntimeError(f"offset {batch.first} came after {nexts[number]}")
            nexts[number] = batch.next
            came[number] += batch.count
            if came == wanted:
                done.set()
        return LeanSubscription(client, topic_name(number % topics), take)

    readers = [reader(number) for number in range(subscriptions)]
    for one in readers:
        one.greeting.get(timeout=_LATE_S)
    link.ready()
    began = perf_counter()
    ended = gevent.iwait([done, *(one.ended for one in readers)], timeout=_LATE_S)
    if next(ended, None) is not done:
        raise RuntimeError("not everything came in time, or a subscription ended")
    return {"began": began, "ended": perf_counter()}
