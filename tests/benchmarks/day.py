"""The processes of "a day in ten minutes": a publisher at full speed, and subscribers that come, go and stop.

Subscribers look at no payload, so that they leave the processors to the server, but each offset must be delivered,
in order, or be told to be missing.
"""

from time import perf_counter

import gevent

import zstreampub
from zstreampub.errors import RequestTimeout

from .payloads import BATCH, OutOfOrder, batch_of, cycle

_TOPICS = 10
_IN_FLIGHT = 8      # batches
_QUIET_S = 90       # so long nothing may come: three times as long as a reader is stopped, whose clock goes on
_VISIT_S = 3
_VISITORS = 2


def publish_for(link, endpoint, seconds, slices):
    """Publish batches at full speed for *seconds*; returns ``counts``, messages answered in each of *slices*."""
    client = zstreampub.Client(endpoint)
    client.about()
    cycle(0)
    counts = [0] * slices
    link.ready()
    link.go()
    began = perf_counter()
    ends = began + seconds

    def caller(first):
        turn = first
        while perf_counter() < ends:
            client.publish_many(f"day.{turn % _TOPICS}", batch_of(0, turn))
            at = int((perf_counter() - began) / seconds * slices)
            counts[min(at, slices - 1)] += BATCH
            turn += _IN_FLIGHT

    gevent.joinall([gevent.spawn(caller, first) for first in range(_IN_FLIGHT)], raise_error=True)
    return {"began": began, "ended": perf_counter(), "counts": counts}


def read_for(link, endpoint, readers, seconds):
    """Subscribe to all topics and read for *seconds*; returns how many messages came, and were told to be missing."""
    client = zstreampub.Client(endpoint)
    trails = [_Trail(client, "new") for _ in range(readers)]
    link.ready()
    began = perf_counter()
    gevent.joinall([gevent.spawn(trail.follow, began + seconds) for trail in trails], raise_error=True)
    return _result(began, trails)


def visit_for(link, endpoint, seconds):
    """Subscribe from the earliest or the newest, read a few seconds, leave without a word; again and again."""
    link.ready()
    began, trails = perf_counter(), []

    def visitor(start):
        while perf_counter() < began + seconds:
            client = zstreampub.Client(endpoint)
            trails.append(_Trail(client, start))
            trails[-1].follow(min(perf_counter() + _VISIT_S, began + seconds))
            client.close()

    gevent.joinall([gevent.spawn(visitor, ("earliest", "new")[at % 2]) for at in range(_VISITORS)], raise_error=True)
    return _result(began, trails)


def _result(began, trails):
    return {"began": began, "ended": perf_counter(), "came": sum(trail.came for trail in trails),
            "missed": sum(trail.missed for trail in trails), "subscriptions": len(trails)}


class _Trail:
    """One subscription to all topics; raises OutOfOrder where an offset neither comes nor is told to be missing."""

    def __init__(self, client, start):
        self.came = self.missed = 0
        self._subscription = client.subscribe("day.>", start=start, on_gap=self._take_gap)
        self._next = None

    def follow(self, ends):
        """Read until the time *ends*."""
        while (room_s := ends - perf_counter()) > 0:
            try:
                batch = self._subscription.get_batch(timeout_s=min(room_s, _QUIET_S))
            except RequestTimeout:
                if room_s > _QUIET_S:
                    raise
                continue
            if self._next not in (batch.first, None):
                raise OutOfOrder(f"offset {batch.first} came where {self._next} belongs")
            self._next = batch.next
            self.came += batch.count

    def _take_gap(self, gap):
        if self._next is not None and gap["first"] > self._next:
            raise OutOfOrder(f"a gap from {gap['first']} came where {self._next} belongs")
        self._next = gap["next"]
        self.missed += gap["count"] or 0
