"""Timing: one timer for all consumers. Nothing here waits."""

from heapq import heappop, heappush
from itertools import count

import gevent


class Timing:
    """Calls ``look(consumer, now)`` at the times that were asked for; it returns when to look again, or None."""

    def __init__(self, look, clock):
        self._look = look
        self._clock = clock         # a function that returns the Clock
        self._agenda = []
        self._numbers = count()
        self._timer = gevent.get_hub().loop.timer(0)
        self._timer_at = None
        self._closed = False

    def watch(self, consumer, when):
        """Look at *consumer* at *when*, if not before."""
        if consumer.alarm_at is None or when < consumer.alarm_at:
            consumer.alarm_at = when
            heappush(self._agenda, (when, next(self._numbers), consumer))
            if self._timer_at is None or when < self._timer_at:
                self._start(when)

    def tick(self):
        """Look at all whose time has come."""
        self._timer_at = None
        agenda, now, again = self._agenda, self._clock().now(), []
        while agenda and agenda[0][0] <= now:
            when, _, consumer = heappop(agenda)
            if consumer.alarm_at == when and not consumer.deleted:
                consumer.alarm_at = None
                again.append((consumer, self._look(consumer, now)))
        for consumer, when in again:
            if when is not None:
                self.watch(consumer, when)
        while agenda and (agenda[0][2].alarm_at != agenda[0][0] or agenda[0][2].deleted):
            heappop(agenda)
        if agenda:
            self._start(agenda[0][0])

    def close(self):
        """Look at nobody any more."""
        self._closed = True
        self._stop()

    def _stop(self):
        self._timer.stop()
        self._timer.close()

    def _start(self, when):
        if self._closed:
            return
        self._timer_at = when
        self._stop()
        self._timer = gevent.get_hub().loop.timer(max(0.001, when - self._clock().now()))
        self._timer.start(self.tick)
