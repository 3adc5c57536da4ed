"""What a FifoStore writes, format 1: an LMDB database, ``messages``, with three kinds of records; and disk/journal.py.

======================  ====================================================================
key                     value
======================  ====================================================================
``r`` u64 position      a *run*: messages in a row. u32 count; u32 length of each item; items
``f`` ...               what a filter remembers, see memory.py
``s``                   the state, see :class:`State`; written by every checkpoint
======================  ====================================================================

A message's position is its running number in the store, from 0. Runs go once all in them was removed: the state
alone says where the front is. Keys are big-endian (they sort; the state comes
last, so that a commit touches one end of the tree), values little-endian. To change the
format: give it the next version, convert when an older one is opened, and keep a store of the old version
under ``tests/data``.
"""

import struct
from itertools import accumulate, islice
from typing import NamedTuple

import msgpack

from ..disk.journal import GROUND_BYTES
from ..errors import StoreCorrupt, StoreVersion

FORMAT = 1
RUN = b"r"
STATE_KEY = b"s"
RUN_BYTES = 256 << 10           # a record has no more, unless one message has
RUN_ITEMS = 65_536
READ_BYTES = 1 << 20            # of one reading, unless one run has more
READ_ITEMS = 16_384
DELETE_RUNS = 4_096             # deleted in one commit
DAMAGED = b""                   # stands for each message of a run that cannot be read

_STATE = struct.Struct(f"<I5Q{GROUND_BYTES}s")
_COUNT = struct.Struct("<I")
_POSITION = struct.Struct(">Q")


class State(NamedTuple):
    """Where the store stands. The messages are those at positions ``first`` to ``next``."""

    serial: int = 0         # number of the commit
    first: int = 0
    next: int = 0
    size_bytes: int = 0     # of all items
    dropped: int = 0        # by the bounds, ever
    ground: bytes = bytes(GROUND_BYTES)     # of the journal; another one in LMDB with every checkpoint
    packed_marks: bytes = b"\x80"

    def pack(self):
        return _STATE.pack(FORMAT, *self[:-1]) + self.packed_marks

    @classmethod
    def parse(cls, packed):
        """Raises StoreVersion, StoreCorrupt."""
        if packed is None or len(packed) < _STATE.size:
            raise StoreCorrupt("The store has no state. Restore it from a backup.")
        version, serial, first, next, size_bytes, dropped, ground = _STATE.unpack_from(packed)
        if version != FORMAT:
            raise StoreVersion(f"A store of format {version}; this program reads {FORMAT}. Use the zstreampub that "
                               "wrote it.", version=version)
        return cls(serial, first, next, size_bytes, dropped, ground, bytes(packed[_STATE.size:]))

    @property
    def marks(self):
        return msgpack.unpackb(self.packed_marks)

    @property
    def count(self):
        return self.next - self.first


def run_key(position):
    return RUN + _POSITION.pack(position)


def runs_of(first, items):
    """Yield the records for *items*, the first of which is at position *first*."""
    at = 0
    while at < len(items):
        size = 0
        end = at
        while end < len(items) and end - at < RUN_ITEMS and (end == at or size + len(items[end]) <= RUN_BYTES):
            size += len(items[end])
            end += 1
        yield run_key(first + at), pack_run(items[at:end])
        at = end


def pack_run(items):
    return b"".join((_COUNT.pack(len(items)), struct.pack(f"<{len(items)}I", *map(len, items)), *items))


def items_of(run, count):
    """Return the items of a run that is to have *count* of them; DAMAGED for each, if it is not whole."""
    try:
        said, = _COUNT.unpack_from(run)
        ends = list(accumulate(struct.unpack_from(f"<{said}I", run, 4), initial=4 + 4 * said))
    except struct.error:
        return [DAMAGED] * count
    if said != count or ends[-1] != len(run):
        return [DAMAGED] * count
    return [run[start:end] for start, end in zip(ends, islice(ends, 1, None))]


def pack_commit(state, items):
    """Return what the journal keeps of a commit: the *state* after it, and the *items* that it added last."""
    packed = state.pack()
    return b"".join((_COUNT.pack(len(packed)), packed, pack_run(items)))


def unpack_commit(payload):
    """Return ``(state, items)`` of :func:`pack_commit`."""
    size, = _COUNT.unpack_from(payload)
    run = payload[4 + size:]
    return State.parse(payload[4:4 + size]), items_of(run, *_COUNT.unpack_from(run))


def read_state(txn, db):
    return State.parse(txn.get(STATE_KEY, db=db.messages))


def read_items(txn, db, position, next):
    """Return ``(position, items)``: those from *position* on, before *next*, as far as one reading goes.

    They begin later, and there may be none, if what is there was removed meanwhile.
    """
    state = read_state(txn, db)
    position, next = max(position, state.first), min(next, state.next)
    if position >= next:
        return position, []
    return position, _read_runs(txn, db, position, next, state.next)[:next - position]


def _read_runs(txn, db, position, wanted, next):
    """Return items from *position* on, up to *wanted* or a few more; *next* is where the last run ends."""
    cursor = txn.cursor(db.messages)
    if not cursor.set_range(run_key(position)) or bytes(cursor.key()) != run_key(position):
        cursor.prev()
    items, size, here = [], 0, _position_of(cursor)
    if here is None or here > position:     # records are missing
        return [DAMAGED] * ((next if here is None else min(here, next)) - position)
    while here is not None and here < wanted and size < READ_BYTES and len(items) < READ_ITEMS:
        run = bytes(cursor.value())
        cursor.next()
        after = _position_of(cursor)
        found = items_of(run, (next if after is None else after) - here)
        if here < position:
            found = found[position - here:]
        items += found
        size += len(run)
        here = after
    return items


def delete_before(txn, db, first, next):
    """Delete runs that end at *first* or before it; the last run ends at *next*. Tell whether there are more."""
    cursor = txn.cursor(db.messages)
    cursor.set_range(RUN)
    keys = [bytes(key) for key in islice(cursor.iternext(keys=True, values=False), DELETE_RUNS + 1)]
    del cursor
    positions = [_POSITION.unpack_from(key, 1)[0] for key in keys if key != STATE_KEY]
    if len(positions) < len(keys):
        positions.append(next)
    for key, after in zip(keys, positions[1:]):
        if after > first or key == STATE_KEY:
            return False
        txn.delete(key, db=db.messages)
    return True


def _position_of(cursor):
    """Return the position of the run that *cursor* is at, None if it is at none."""
    key = bytes(cursor.key())
    return _POSITION.unpack_from(key, 1)[0] if key[:1] == RUN and len(key) == 9 else None
