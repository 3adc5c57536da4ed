"""The sifter: filters the messages of all subscriptions with filters, in turns of a few milliseconds.

It runs on the hub, after the fan-out and not in it: who has filters delays nobody who has none, and among those with
filters each gets a turn. A batch is opened once for all of them, and forgotten soon.
"""

from collections import OrderedDict, deque
from time import perf_counter

import gevent

from .filters.opened import OpenedBatch
from .stats import Histogram

_TURN_S = 0.002             # how long it may hold the hub
_OPENED_BYTES = 1 << 18     # of batches, packed, that are kept open: decoded they weigh several times that


class Sifter:
    """Gives each subscription that has something to sift its turns: ``subscription.sift()``, as long as that is true.

    ``failed(subscription, error)`` is called with what it raised, which is a bug of ours.
    """

    def __init__(self, failed):
        self.filtered = 0           # messages that were left out, in all
        self.turn_us = Histogram()
        self._failed = failed
        self._line = deque()
        self._running = False
        self._opened = OrderedDict()    # (first, next) -> OpenedBatch
        self._opened_bytes = 0

    def line_up(self, subscription):
        """Give *subscription* its turn soon."""
        if not subscription.lined_up:
            subscription.lined_up = True
            self._line.append(subscription)
            if not self._running:
                self._running = True
                gevent.get_hub().loop.run_callback(self._begin)

    def opened(self, batch):
        """Return *batch* opened, as it was for others if they looked at it lately."""
        key = batch.first, batch.next
        found = self._opened.get(key)
        if found is None or found.batch.time_us != batch.time_us:
            found = self._opened[key] = OpenedBatch(batch)
            self._opened_bytes += batch.size
            while self._opened_bytes > _OPENED_BYTES and len(self._opened) > 1:
                self._opened_bytes -= self._opened.popitem(last=False)[1].batch.size
        return found

    def _begin(self):
        if self._turn():
            gevent.spawn(self._go_on)

    def _go_on(self):
        more = True
        while more:
            gevent.idle(2)      # polls, unlike sleep(0)
            more = self._turn()

    def _turn(self):
        """Sift for a few milliseconds; return whether something is left."""
        began, line = perf_counter(), self._line
        while line and perf_counter() - began < _TURN_S:
            subscription = line.popleft()
            subscription.lined_up = False       # from here on: its reader may make room while it sifts
            try:
                more = subscription.sift()
            except Exception as error:      # a bug of ours costs this subscription, and no other
                self._failed(subscription, error)
                more = False
            if more:
                self.line_up(subscription)
        self.turn_us.add((perf_counter() - began) * 1e6)
        if not line:
            self._running = False
            self._forget()
        return self._running

    def _forget(self):
        """Keep no batch open while there is nothing to do."""
        self._opened.clear()
        self._opened_bytes = 0
