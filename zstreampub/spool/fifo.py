"""FifoStore: received messages on disk, first in, first out."""

import os

from ..checks import within
from ..disk.environment import Layout
from ..errors import BatchTooLarge, InvalidOption, SpoolFull
from .contents import Contents
from .items import Items, check_sizes
from .marks import check_mark
from .memory import check_memory, read_memory
from .plan import Add, FifoPlan, Pop
from .records import STATE_KEY, read_items
from .spool import MAX_DISK_BYTES, Spool

MAX_GROUP_BYTES = 256 << 20
READ_MESSAGES = 1_000           # of an iteration, in one reading
WHEN_FULL = ("refuse", "drop", "drop_oldest", "block")

_LAYOUT = Layout(
    ("messages",),
    "holds an LMDB environment that is not a FifoStore. Name another directory.",
    "Pop messages, raise max_disk_bytes, or free space on the disk.",
    ("messages", STATE_KEY))


class FifoStore(Spool):
    """Messages in the order in which they were added, in the directory *path*; any thread, any greenlet.

    What :meth:`add` was given is on disk when it returns, and what :meth:`pop_front` removed is gone. Used in two
    phases (front, work, pop) nothing is lost, and after a crash at most the one in work comes again.

    *max_messages* and *max_bytes* (of the messages as kept) bound it; what happens then is *when_full*:
    ``"refuse"`` raises SpoolFull, ``"block"`` waits for room, up to *block_timeout_s*, ``"drop"`` leaves out what
    is new, ``"drop_oldest"`` removes from the front; ``dropped`` counts both. *codec* has ``dumps(value)`` and
    ``loads(bytes)``; bytes are kept as they are, a Message or Delivery whole. *durability*: ``"sync"``, or
    ``"relaxed"``: a power cut, but not ``kill -9``, may take back the last commits, up to 1 MiB of them. The file
    grows up to *max_disk_bytes*.

    Raises StoreLocked (one process at a time), StoreCorrupt, StoreVersion, StoreError; nothing that is found is
    ever overwritten.
    """

    def __init__(self, path, *, max_messages=None, max_bytes=None, when_full="refuse", block_timeout_s=None,
                 codec=None, durability="sync", max_disk_bytes=MAX_DISK_BYTES):
        if when_full not in WHEN_FULL:
            raise InvalidOption(f"when_full is one of {', '.join(WHEN_FULL)}, not {when_full!r:.40}.",
                                option="when_full")
        self.max_messages = _bound("max_messages", max_messages)
        self.max_bytes = _bound("max_bytes", max_bytes)
        self.when_full = when_full
        self._block_timeout_s = block_timeout_s if block_timeout_s is None else within(
            "block_timeout_s", block_timeout_s, None, 0, 1e9, float)
        self._items = Items(codec)
        self.blocked = []           # adds that wait for room
        self._shown = (0, 0)        # positions that front or front_many returned last and that were not popped yet
        self.contents = Contents(os.path.abspath(os.fspath(path)), durability == "sync")
        # What is in LMDB is always synced: the journal is overwritten then.
        super().__init__(path, _LAYOUT, durability, max_disk_bytes, lmdb_durability="sync")

    # --- adding --------------------------------------------------------------------------

    def add(self, message, mark=None):
        """Keep *message* behind all others; it is on disk when this returns. Return whether it is kept.

        It is not if it is None (as a filter returns it) or was left out under ``"drop"``. *mark*, ``(name, value)``,
        is kept in the same transaction, also if the message is not; value None removes it. Raises SpoolFull, StoreFull
        (the disk), InvalidPayload, MessageTooLarge; then neither is kept.
        """
        return self.add_many(() if message is None else (message,), mark) > 0

    __call__ = add

    def add_many(self, messages, mark=None, memory=None):
        """Keep *messages* in one transaction, all or, if it raises, none; return how many are kept. See :meth:`add`.

        *memory*, ``(name, changes)``, is changed in the same transaction, see :meth:`memory`; None removes a record.
        """
        self._check_open()
        items = self._items.pack_many(list(messages))
        marks, changes = check_mark(mark), check_memory(memory)
        if not items and marks is None and not changes:
            return 0
        size = sum(map(len, items))
        self._check_sizes(items, size)
        kept = self._run(Add(items, size, marks, changes), self._block_timeout_s)
        if kept is None:
            raise SpoolFull(f"The store was full for {self._block_timeout_s} s. Pop messages faster, or widen its "
                            "bounds.", path=self.path)
        return kept

    def _check_sizes(self, items, size):
        check_sizes(items, self.max_bytes)
        if size > MAX_GROUP_BYTES or (self.when_full in ("refuse", "block") and self.is_over(len(items), size)):
            raise BatchTooLarge(f"{len(items)} messages of {size} bytes never fit into this store together. Add them "
                                "in smaller groups.", count=len(items), size=size)

    def set_mark(self, name, value):
        """Keep the mark alone; None removes it."""
        self.add_many((), (name, value))

    # --- looking ---------------------------------------------------------------------------

    def front(self):
        """Return the first message, None if there is none; never wait. It stays.

        Raises StoreCorrupt, with ``position``, if it does not decode; :meth:`pop_front` removes it then.
        """
        with self._looking():
            state = self.contents.state
            if state.first == state.next:
                self._shown = (0, 0)
                return None
            item = self.contents.front.item(state.first)
            self._shown = (state.first, state.first + 1)
        return self._items.unpack(item, state.first)

    def front_many(self, count):
        """Return the first *count* messages, or as many as there are, as a list. They stay.

        What follows one that does not decode is left out; if that is the first, raise StoreCorrupt.
        """
        within("count", count, None, 1, 1 << 40)
        with self._looking():
            position, items, missing, tail = self.contents.first_items(count)
        found = self._on_disk(position + len(items), missing) if missing else []
        items += found
        if len(found) == missing:       # else somebody removes them just now
            items += tail
        with self._gate:
            self._shown = (position, position + len(items))
        return self._items.unpack_many(items, position)

    def _on_disk(self, position, count):
        """Return the items there, up to one that somebody has removed meanwhile."""
        items: list = []
        while len(items) < count:
            found_at, found = self._read(read_items, position + len(items), position + count)
            if found_at != position + len(items):
                break
            items += found
        return items

    def __iter__(self):
        """Yield the messages, first to last, as they are when it gets there; they stay. Raises StoreCorrupt."""
        self._check_open()
        position = 0
        while True:
            position, items = self._some_items(position)
            if not items:
                return
            for item in items:
                yield self._items.unpack(item, position)
                position += 1

    def _some_items(self, position):
        """Return ``(position, items)``: some of those from *position* on, or from later, if they are gone."""
        while True:
            with self._looking():
                state = self.contents.state
                position = max(position, state.first)
                next = min(state.next, position + READ_MESSAGES)
                items = self.contents.some_items(position, next)
            if not items and position < next:
                position, items = self._read(read_items, position, next)
            if items or position >= next:
                return position, items

    def __len__(self):
        """Return how many messages there are, on disk."""
        self._check_open()
        return self.state.count

    # --- removing ---------------------------------------------------------------------------

    def pop_front(self):
        """Remove the first message; it is gone from disk when this returns. Return whether there was one.

        After :meth:`front`, the one that it returned is meant: if it was dropped meanwhile, no other is removed.
        """
        return self.pop_many(1) > 0

    def pop_many(self, count, mark=None):
        """Remove the first *count* messages, or as many as there are, in one transaction; return how many.

        *mark* is kept in the same transaction, see :meth:`add`.
        """
        self._check_open()
        within("count", count, None, 1, 1 << 40)
        marks = check_mark(mark)
        with self._gate:
            first, end = self._shown
            shown = first < end and self.state.first > first
            self._shown = (first + count, end) if first < end else (0, 0)
            if not shown and self.state.count == 0 and marks is None:
                return 0
        return self._run(Pop(first if first < end else None, count, marks))

    def clear(self):
        """Remove all messages; return how many."""
        self._check_open()
        return self._run(Pop(None, self.state.count)) if self.state.count else 0

    # --- for the plan and the commits ------------------------------------------------------------

    def is_over(self, count, size):
        """Tell whether *count* messages of *size* bytes are more than the bounds allow."""
        return (self.max_messages is not None and count > self.max_messages) or (
            self.max_bytes is not None and size > self.max_bytes)

    def retaken(self):
        """Return the adds that wait for room, and still do."""
        return [operation for operation in self.blocked if self._group.retake(operation)]

    def lists_at(self, position, next):
        """Yield the items at *position* to *next*, in lists."""
        return self.contents.lists_at(position, next, self._environment.read)

    @property
    def state(self):
        return self.contents.state

    @property
    def all_marks(self):
        return self.contents.marks

    def _load_memory(self, txn, db, prefix):
        return read_memory(txn, db.messages, prefix)

    def _make(self, txn, db):
        self.contents.make(txn, db)

    def _load(self, txn, db):
        return self.contents.load(txn, db)

    def _take_over(self, *loaded):
        self.contents.take_over(*loaded)

    def _plan(self, operations, full=None):
        return FifoPlan(self, operations, full)

    def _cleaning_plan(self):
        return FifoPlan(self, [], cleans=True)

    def _save(self, plan):
        self.contents.save(plan, self._environment)

    def _read_ahead(self, plan):
        return self.contents.read_ahead(plan, self._environment.read)

    def _apply(self, plan, ahead):
        self.blocked = plan.blocked
        for operation in plan.blocked:
            self._group.postpone(operation)
        self.contents.apply(plan, ahead)

    def _finish(self):
        self.contents.finish(self._cleaning_plan(), self._environment)

    def _let_go(self):
        self.contents.close()
        super()._let_go()

    def _postponed(self):
        return self.blocked


def _bound(name, value):
    return None if value is None else within(name, value, None, 1, 1 << 50)
