"""Messages of maps, some 100 bytes each, for filters to look into; and the actors that publish and read them."""

from functools import cache
from time import perf_counter

import zstreampub
from zstreampub.message import Batch

from .actors import TOPIC, timed
from .lean import LeanClient
from .payloads import BATCH, OutOfOrder

CYCLE = 16      # different batches
_IN_FLIGHT = 8


@cache
def batch_of(number):
    """Return the payloads of one batch of the cycle."""
    first = number % CYCLE * BATCH
    return [{"id": at, "at": at / 8, "status": "paid", "total": 12.5, "region": "eu", "text": "x" * 50}
            for at in range(first, first + BATCH)]


def publish_maps(link, endpoint, batches, headers):
    """Publish *batches*, packed beforehand, each message with *headers*, a few callers at a time."""
    client = LeanClient(endpoint)
    client.call("about")
    column = headers and [headers] * BATCH
    packed = [Batch.of(TOPIC, batch_of(number), headers=column).packed for number in range(CYCLE)]
    turns = iter(range(batches))

    def caller(_):
        for turn in turns:
            client.call("append", [packed[turn % CYCLE]])

    link.ready()
    link.go()
    return timed(caller, min(_IN_FLIGHT, batches))


def read_maps(link, endpoint, messages, filters, start):
    """Read *messages*, as messages, and check every one."""
    client = zstreampub.Client(endpoint)
    client.about()
    expected = [batch_of(number) for number in range(CYCLE)]
    began, seen = None, 0
    if start != "new":
        link.ready()
        link.go()
        began = perf_counter()
    subscription = client.subscribe(TOPIC, start=start, reconnect=False, filters=filters)
    if start == "new":
        link.ready()
    for batch in subscription.batches():
        began = began or perf_counter()
        at = seen // BATCH % CYCLE
        payloads = [message.payload for message in batch.messages()]
        if payloads != expected[at][seen % BATCH:seen % BATCH + batch.count]:
            raise OutOfOrder(f"not what was published, at offset {batch.first}")
        seen += batch.count
        if seen >= messages:
            break
    return {"began": began, "ended": perf_counter()}
