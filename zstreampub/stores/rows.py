"""Row: things with running numbers in a database of their own, written at its end and forgotten from its front.

The record that was begun last is written again, longer, with each commit until it has ``RECORD_BYTES``:
LMDB writes its page anew anyway, and forgetting costs one call for each record, not for each commit.
"""

from collections import deque

from .records import OFFSET

RECORD_BYTES = 2_000        # as much as LMDB keeps in a page that others share
FORGET_RECORDS = 16         # with one commit


class Row:
    """Where the records of a row begin, and the one that grows; in memory, changed after commits only."""

    def __init__(self):
        self._starts = deque()
        self._growing = b""

    @property
    def first(self):
        """The number of the first thing that is kept, or None."""
        return self._starts[0] if self._starts else None

    def load(self, txn, db):
        """Yield ``(number, record)`` of all that is kept."""
        self._starts.clear()
        for key, record in txn.cursor(db):
            number, = OFFSET.unpack(key)
            self._starts.append(number)
            yield number, record

    def write(self, txn, db, number, packed, forget_below):
        """Write what has the numbers from *number* on, if anything, and forget what is below *forget_below*.

        Returns what :meth:`written` is told after the commit, None if there was nothing to do.
        """
        forgotten = self._forgotten(forget_below)
        if not packed and not forgotten:
            return None
        start, record = (self._starts[-1], self._growing + packed) if self._growing else (number, packed)
        if packed:
            txn.put(OFFSET.pack(start), record, db=db)
        for number in forgotten:
            txn.delete(OFFSET.pack(number), db=db)
        return start, record, len(forgotten)

    def _forgotten(self, below):
        forgotten, starts = [], self._starts
        while len(forgotten) < min(FORGET_RECORDS, len(starts) - 1) and starts[len(forgotten) + 1] <= below:
            forgotten.append(starts[len(forgotten)])
        return forgotten

    def written(self, outcome):
        """The transaction of :meth:`write` is committed."""
        if outcome is None:
            return
        start, record, forgotten = outcome
        if record and not (self._starts and self._starts[-1] == start):
            self._starts.append(start)
        self._growing = record if len(record) < RECORD_BYTES else b""
        for _ in range(forgotten):
            self._starts.popleft()
