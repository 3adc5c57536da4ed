"""The journal and the records: what the hub keeps in the store for itself, in the transactions of the log.

The record that was begun last is written again, longer, with each commit until it has ``RECORD_BYTES``:
LMDB writes its page anew anyway, and forgetting costs one call for each record, not for each commit.
"""

from collections import deque

from .records import LENGTH, OFFSET

RECORD_BYTES = 2_000            # as much as LMDB keeps in a page that others share
FORGET_RECORDS = 16             # with one commit


class Journal:
    """Where the records of the journal begin, and the one that grows; in memory, changed after commits only."""

    def __init__(self):
        self.starts = deque()
        self._growing = b""
        self._forget_below = 0

    def load(self, txn, db):
        self.starts = deque(OFFSET.unpack(key)[0] for key in txn.cursor(db.journal).iternext(values=False))

    def write(self, txn, db, number, changes, forget_below):
        """Add *changes* from *number* on, and drop records; returns what :meth:`written` is told after the commit."""
        start, record = (self.starts[-1], self._growing) if self._growing else (number, b"")
        if changes:
            record += pack_changes(changes)
            txn.put(OFFSET.pack(start), record, db=db.journal)
        forget_below = max(forget_below, self._forget_below)
        forgotten = self._forgotten(forget_below)
        for number in forgotten:
            txn.delete(OFFSET.pack(number), db=db.journal)
        return start, record, forget_below, len(forgotten)

    def _forgotten(self, below):
        forgotten = []
        for at in range(min(FORGET_RECORDS, len(self.starts) - 1)):
            if self.starts[at + 1] > below:
                break
            forgotten.append(self.starts[at])
        return forgotten

    def written(self, outcome):
        start, record, self._forget_below, forgotten = outcome
        if record and not (self.starts and self.starts[-1] == start):
            self.starts.append(start)
        self._growing = record if len(record) < RECORD_BYTES else b""
        for _ in range(forgotten):
            self.starts.popleft()


def pack_changes(changes):
    return b"".join([part for change in changes for part in (LENGTH.pack(len(change)), change)])


def unpack_changes(key, record):
    """Yield ``(number, change)``; raises struct.error or ValueError if *record* is none."""
    (number,), at = OFFSET.unpack(key), 0
    while at < len(record):
        size, = LENGTH.unpack_from(record, at)
        at += LENGTH.size + size
        if at > len(record):
            raise ValueError(f"change {number} of the journal is cut off")
        yield number, bytes(record[at - size:at])
        number += 1


def read_journal(txn, db):
    """Return what :meth:`Store.journal` promises; in one transaction, as it is asked for once in a life."""
    return [entry for key, record in txn.cursor(db.journal) for entry in unpack_changes(key, record)]


def write_records(txn, db, records):
    kept = [(key, value) for key, value in records.items() if value is not None]
    if kept:
        txn.cursor(db.records).putmulti(kept)
    for key, value in records.items():
        if value is None:
            txn.delete(key, db=db.records)


def read_records(txn, db, prefix, after, most):
    """Return what :meth:`Store.records` promises."""
    found, cursor = [], txn.cursor(db.records)
    start = prefix if after is None else max(prefix, after + b"\0")
    if most > 0 and cursor.set_range(start):
        for key, value in cursor.iternext():
            key = bytes(key)
            if not key.startswith(prefix):
                break
            found.append((key, bytes(value)))
            if len(found) >= most:
                break
    return found
