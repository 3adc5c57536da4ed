"""LatestPlan: what one commit of a LatestStore does, and the records that it writes.

======================  ========================================================
key                     value
======================  ========================================================
``m`` and packed name   u64 running number of the message, item
``f`` ...               what a filter remembers, see memory.py
``s``                   the state, see records.py
======================  ========================================================
"""

import struct
from itertools import chain

import msgpack

from ..errors import SpoolFull, ZStreamPubError
from .committing import Operation
from .marks import merged_marks, pack_marks
from .memory import write_memory
from .plan import Add
from .records import STATE_KEY
from .spool import Close

NAME = b"m"
NUMBER = struct.Struct("<Q")


class Forget(Operation):
    """Removes what there is of *name*; its result is whether there was something."""

    __slots__ = ("name",)

    def __init__(self, name):
        super().__init__()
        self.name = name


class LatestPlan:
    """What one commit of *store* does with *operations*. *full*: the error for whatever brings something."""

    def __init__(self, store, operations, full=None):
        self._store = store
        self._full = full
        self._was = state = store.state
        self.marks = store.all_marks
        self.memory: dict = {}      # what changes of it
        self.changed = {}           # name -> (number, item), or None: it is removed; the newest last
        self._next, self._size, self._dropped = state.next, state.size_bytes, state.dropped
        self._count = len(store.newest)
        self.outcomes: list = []
        for operation in operations:
            if type(operation) is Add:
                self._add_or_refuse(operation)
            elif type(operation) is Forget:
                self.outcomes.append((operation, self._remove(operation.name), None))
            elif type(operation) is not Close:
                self.outcomes.append((operation, True, None))
        remarked = self.marks is not store.all_marks
        self.changes = remarked or bool(self.memory or self.changed)
        self.serial = state.serial + self.changes
        self.removes = not self.memory and not any(self.changed.values())
        self.state = state._replace(serial=self.serial, next=self._next, size_bytes=self._size, dropped=self._dropped,
                                    packed_marks=pack_marks(self.marks) if remarked else state.packed_marks)

    def _entry(self, name):
        return self.changed[name] if name in self.changed else self._store.newest.get(name)

    def _add_or_refuse(self, operation):
        try:
            if self._full is not None:
                raise self._full
            marks = merged_marks(self.marks, operation.marks) if operation.marks else self.marks
            newest = _newest(operation.items)
            self._check_bounds(newest)
        except ZStreamPubError as error:
            self.outcomes.append((operation, None, error))
            return
        self.marks = marks
        self.memory |= operation.memory
        for name, item in newest.items():
            self._put(name, item)
        self.outcomes.append((operation, len(operation.items), None))
        self._drop_oldest()

    def _check_bounds(self, newest):
        if self._store.when_full != "refuse":
            return
        before = [self._entry(name) for name in newest]
        count = self._count + before.count(None)
        size = self._size + sum(map(len, newest.values())) - sum(len(entry[1]) for entry in before if entry)
        if count > self._store.max_messages or size > self._store.max_bytes:
            raise SpoolFull(
                f"The store would have {count} messages of {size} bytes; its bounds are "
                f"max_messages={self._store.max_messages}, max_bytes={self._store.max_bytes}. Widen them.",
                path=self._store.path)

    def _put(self, name, item):
        self._remove(name)
        self.changed.pop(name, None)
        self.changed[name] = (self._next, item)
        self._next += 1
        self._size += len(item)
        self._count += 1

    def _remove(self, name):
        entry = self._entry(name)
        if entry is None:
            return False
        self.changed[name] = None
        self._size -= len(entry[1])
        self._count -= 1
        return True

    def _drop_oldest(self):
        if not self._is_over():
            return
        for name in chain((name for name in self._store.newest if name not in self.changed), list(self.changed)):
            self._dropped += self._remove(name)
            if not self._is_over():
                return

    def _is_over(self):
        return self._count > self._store.max_messages or self._size > self._store.max_bytes

    def write(self, txn, db):
        """Write it; may be run again."""
        for name, entry in self.changed.items():
            key = NAME + msgpack.packb(name)
            if entry is None:
                txn.delete(key, db=db.latest)
            else:
                txn.put(key, NUMBER.pack(entry[0]) + entry[1], db=db.latest)
        write_memory(txn, db.latest, self.memory)
        txn.put(STATE_KEY, self.state.pack(), db=db.latest)


def _newest(items):
    """Return the last of *items* (name, item) of each name, as a dict in the order in which they came."""
    newest = {}
    for name, item in items:
        newest.pop(name, None)
        newest[name] = item
    return newest
