"""Measuring: how much there is of some topics in a stretch of the log, counted from the columns of its runs."""

from ..store import Measure
from .reading import STEP_RUNS, Choice, runs_forward


class Measuring:
    """One measurement, in steps; ``done`` when there is none left."""

    def __init__(self, state, wanted, first, next):
        self._state = state
        self._choice = Choice(state, wanted)
        self._first = self._cursor = first
        self._stop = min(next, self._choice.end)
        self._messages = self._bytes = 0
        self._oldest_us = None
        self.done = self._cursor >= self._stop

    def measure(self):
        return Measure(self._messages, self._bytes, self._oldest_us)

    def step(self, txn, db):
        """Count the next few runs; in a reader thread."""
        for looked, run in enumerate(runs_forward(txn, db, self._choice, self._cursor)):
            if run.key >= self._stop:
                break
            if looked >= STEP_RUNS:
                return
            self._count(run)
            self._cursor = run.next
        self.done = True

    def _count(self, run):
        ids, start = self._choice.ids, run.at(self._cursor)
        places = range(start, len(run)) if ids is None else run.places(start, ids)
        for at in places:
            first, count = run.firsts[at], run.counts[at]
            if first >= self._stop:
                break
            size, low, high = run.size(at), max(self._first - first, 0), min(self._stop - first, count)
            if high - low < count:
                size = run.batch(at, self._state.topics.all).slice(low, high).size
            self._messages += high - low
            self._bytes += size
            if self._oldest_us is None:
                self._oldest_us = run.time_us
