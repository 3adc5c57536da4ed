"""Measuring: how much there is of some topics in a stretch of the log.

Counted from what lies there, in steps of a bounded number of records: topics that lie in the stretch
as a whole from their counters, whole segments from their totals, the rest from the columns of the runs.
"""

from collections import deque
from functools import partial

from gevent.monkey import get_original

from ..store import Measure
from .reading import STEP_RUNS, Choice, stretch
from .records import OFFSET, Ends, Run, segments_from

_SEGMENT_COST = 5       # as much as so many runs
_AT_ONCE = 100          # topics whose counters are copied in one go

_pause = get_original("time", "sleep")


class Measuring:
    """One measurement, in steps; ``done`` when there is none left. In a reader thread, but for :meth:`measure`."""

    def __init__(self, state, wanted, first, next):
        self._state = state
        self._choice = Choice(state, wanted)
        self._first = first
        self._stop = min(next, self._choice.end)
        self._messages = self._bytes = 0
        self._oldest_us = None
        self._cut = {}              # the topics that lie in it in part: id -> Topic
        self._start = self._stop    # of the first topic
        self._count_topics()
        self._cursor = max(first, self._start)
        self._keys = deque()        # of runs that are to be counted
        self._ids = None            # of topics, in those runs
        self._next = self._next_segment if self._cut else None
        self.done = self._start >= self._stop

    def measure(self):
        return Measure(self._messages, self._bytes, self._oldest_us)

    def step(self, txn, db):
        """Count a little more."""
        state = self._state
        if state.changes & 1 or Ends.unpack(txn.get(b"state", db=db.meta)).mark > state.mark:
            _pause(0)       # a trim is committed, but the topics do not know of it yet
            return
        room = STEP_RUNS
        while room > 0 and (self._keys or self._next is not None):
            if self._keys:
                self._count_run(txn, db, self._keys.popleft())
                room -= 1
            else:
                self._next(txn, db)
                room -= _SEGMENT_COST
        if room > 0:
            self._find_oldest(txn, db)

    # --- whole topics --------------------------------------------------------------------

    def _count_topics(self):
        selected = self._choice.selected
        for at in range(0, len(selected), _AT_ONCE):
            part = selected[at:at + _AT_ONCE]
            for topic, messages, size, first, next in self._state.steady(partial(_counters, part)):
                if not messages or next <= self._first or first >= self._stop:
                    continue
                self._start = min(self._start, max(first, self._first))
                if first >= self._first and next <= self._stop:
                    self._messages += messages
                    self._bytes += size
                else:
                    self._cut[topic.id] = topic

    # --- whole segments --------------------------------------------------------------------

    def _next_segment(self, txn, db):
        tail = self._choice.tail
        segment = next(segments_from(txn, db, self._cursor), None) if self._cursor < tail.first else None
        if segment is None or segment.first >= min(self._stop, tail.first):
            self._add_runs([key for key, ids in tail.runs if not ids.isdisjoint(self._cut)], set(self._cut))
            self._next = None
            return
        walked = set(self._cut)
        if self._first <= segment.first and segment.next <= min(self._stop, tail.first):
            for id, messages, size in segment.totals(self._cut):
                # The totals are what was appended: exact as long as nothing of the topic was trimmed there.
                if self._cut[id].trimmed_next <= segment.first:
                    self._messages += messages
                    self._bytes += size
                    walked.remove(id)
        self._add_runs([key for key in segment.runs_of(walked) if key < tail.first], walked)
        self._cursor = max(self._cursor, segment.next)

    def _add_runs(self, keys, ids):
        self._keys.extend(key for key in keys if key < self._stop)
        self._ids = ids

    # --- runs ------------------------------------------------------------------------------

    def _count_run(self, txn, db, key):
        packed = OFFSET.pack(key)
        view = txn.get(packed, db=db.log)
        if view is None:        # a trim has taken it
            return
        run = Run(packed, view)
        for at in run.places(run.at(self._first), self._ids):
            first, count = run.firsts[at], run.counts[at]
            if first >= self._stop:
                break
            low, high = max(self._first - first, 0), min(self._stop - first, count)
            self._messages += high - low
            self._bytes += run.size(at) if high - low == count else \
                run.batch(at, self._state.topics.all).slice(low, high).size

    # --- the oldest ------------------------------------------------------------------------

    def _find_oldest(self, txn, db):
        choice, room = self._choice, STEP_RUNS
        for first, cost, run in stretch(txn, db, choice, self._start):
            if first >= self._stop:
                break
            if room <= 0 and first > self._start:
                self._start = first
                return
            room -= cost + 1
            if run is not None:
                start = max(run.at(self._start), run.at(self._first))
                places = range(start, len(run)) if choice.ids is None else run.places(start, choice.ids)
                if places and run.firsts[places[0]] < self._stop:
                    self._oldest_us = run.time_us
                    break
        self.done = True


def _counters(topics):
    return [(topic, topic.messages, topic.bytes, topic.first, topic.next) for topic in topics]
