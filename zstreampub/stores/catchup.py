"""Catching up: how a process that does not write the log learns what another has committed to it.

Each step looks at one snapshot: new topics, what trims have taken, the next stretch of the log. Counters of topics that
were trimmed are read from the pages that the trim has written; all others are counted on from the log.
"""

from typing import NamedTuple

from .checkpoint import load_topics
from .records import NUMBER, OFFSET, PAGE_TOPICS, REMOVED, Ends, Tail, runs_from, unpack_page
from .state import LogState

STEP_BYTES = 1 << 20        # of batches, after which a step ends


class Step(NamedTuple):
    """What one step came to: the *batches* that are new, oldest first, up to *end*, and whether there are more.

    *torn*: messages among them were trimmed already; whoever follows must look for the gap in the log.
    """

    batches: list
    end: int
    torn: bool
    more: bool


class FollowedState(LogState):
    """The state of a log that another process writes. Changed by one thread only, by :meth:`load` and :meth:`step`."""

    def __init__(self, settings):
        super().__init__(settings)
        self.tail = Tail(0)

    def load(self, txn, db):
        """Learn everything that there is."""
        ends = Ends.unpack(txn.get(b"state", db=db.meta))
        self.epoch = bytes(txn.get(b"epoch", db=db.meta)).hex()
        self.tail = Tail(ends.segmented)
        load_topics(self.topics, txn, db)
        for run in runs_from(txn, db, min(ends.checkpoint, ends.segmented)):
            self._take(txn, db, run, 0)
        self._finish(ends, ends.next)

    def step(self, txn, db):
        """Take the next stretch of the log; return the :class:`Step`."""
        ends = Ends.unpack(txn.get(b"state", db=db.meta))
        if ends.next == self.end and ends.mark == self.mark:
            return Step([], self.end, False, False)
        if ends.segmented > self.tail.first:
            self.tail = Tail(ends.segmented)
        with self.changing():
            torn = ends.mark != self.mark and self._take_trims(txn, db)
            batches, end = self._take_runs(txn, db, ends.next)
        self._finish(ends, end)
        return Step(batches, end, torn, end < ends.next)

    def _finish(self, ends, end):
        self.first, self.time_us, self.mark = ends.first, ends.time_us, ends.mark
        self.end = end      # last, see state.py

    def _take_runs(self, txn, db, end):
        batches, size = [], 0
        for run in runs_from(txn, db, self.end):
            if run.next <= self.end:
                continue
            if size >= STEP_BYTES:
                return batches, run.firsts[0]
            found = self._take(txn, db, run, self.end)
            batches += found
            size += sum(len(batch.packed) for batch in found)
        return batches, end

    def _take(self, txn, db, run, first):
        """Count *run*; return its batches from offset *first* on."""
        topics = self.topics.all
        if max(run.ids) > len(topics):
            load_topics(self.topics, txn, db)
        placed = [(topics[run.ids[at] - 1], run.batch(at, topics)) for at in range(len(run)) if run.firsts[at] >= first]
        for topic, batch in placed:
            if batch.first >= topic.next:       # else the counters have it already
                topic.add(batch.first, batch.count, len(batch.packed))
        if run.key >= self.tail.first:
            self.tail.add(run.key, placed)
        return [batch for _, batch in placed]

    def _take_trims(self, txn, db):
        """Take over the counters of topics that were trimmed; return whether they lost what was not seen yet."""
        load_topics(self.topics, txn, db)
        removed = self._removed(txn, db)
        ids = range(1, len(self.topics) + 1) if removed is None else {id for id, _, _ in removed}
        for page in {(id - 1) // PAGE_TOPICS for id in ids}:
            for id, counters in unpack_page(page, txn.get(NUMBER.pack(page), b"", db=db.counters)):
                topic = self.topics.all[id - 1]
                if counters[-1] > self.mark:    # else the page may be older than what was counted here
                    (topic.messages, topic.bytes, topic.first, topic.next,
                     topic.trimmed_next, topic.trimmed_messages, topic.mark) = counters
        if removed is None:
            return any(topic.mark > self.mark and topic.trimmed_next > self.end for topic in self.topics.all)
        return any(first + count > self.end for _, first, count in removed)

    def _removed(self, txn, db):
        """Return what the trims since ours took: (topic id, first, messages) of each; None where that is forgotten."""
        marks = txn.cursor(db.trims)
        if not marks.set_range(OFFSET.pack(self.mark + 1)) or OFFSET.unpack(marks.key())[0] != self.mark + 1:
            return None
        return [one for value in marks.iternext(keys=False) for one in REMOVED.iter_unpack(value)]
