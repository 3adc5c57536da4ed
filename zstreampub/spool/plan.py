"""FifoPlan: what one commit of a FifoStore does. Nothing in memory or on disk is changed by making it.

Removals come first, so that there is room; then what waited for room, then what is new, in order.
"""

from itertools import chain

from ..disk.journal import new_ground
from ..errors import SpoolFull, ZStreamPubError
from .committing import Operation
from .marks import merged_marks, pack_marks
from .memory import write_memory
from .records import STATE_KEY, delete_before, pack_commit, runs_of
from .spool import Close


class Add(Operation):
    """Adds *items*, sets *marks*, a dict or None, and changes the *memory*. Its result is how many items are kept."""

    __slots__ = ("items", "size", "marks", "memory")

    def __init__(self, items, size, marks, memory):
        super().__init__()
        self.items = items
        self.size = size
        self.marks = marks
        self.memory = memory


class Pop(Operation):
    """Removes *count* messages from position *first* on, or from the front if that is None; its result is how many.

    It sets *marks*, a dict or None, too.
    """

    __slots__ = ("first", "count", "marks")

    def __init__(self, first, count, marks=None):
        super().__init__()
        self.first = first
        self.count = count
        self.marks = marks


class FifoPlan:
    """Made for *store*, of its *operations*. *full*: the error for whatever brings something.

    *cleans*: it only deletes what was removed, and brings to LMDB what the journal has.
    """

    def __init__(self, store, operations, full=None, cleans=False):
        self._store = store
        self._full = full
        self._was = state = store.state
        self.first, self.next, self.size_bytes, self.dropped = state.first, state.next, state.size_bytes, state.dropped
        self.marks = store.all_marks
        self.memory = {}            # what changes of it
        self.added = []             # items, from position ``at`` on
        self.at = state.next
        self.removed_bytes = store.contents.removed_bytes       # that LMDB has still
        self.is_checkpoint = self.leaves_garbage = False
        self.blocked = []
        self.outcomes: list = []
        self.cleans = cleans
        if cleans:
            self.blocked = store.blocked
        else:
            self._plan_all(operations)
        self._finish()

    def _plan_all(self, operations):
        adds = []
        for operation in operations:
            if type(operation) is Add:
                adds.append(operation)
            elif type(operation) is Pop:
                self._pop(operation)
            elif type(operation) is not Close:
                self.outcomes.append((operation, True, None))
        retaken = self._store.retaken()
        for operation in dict.fromkeys(retaken + adds):     # one may be in both, after an interruption
            self._add_or_refuse(operation)

    def _finish(self):
        store, was = self._store, self._was
        if self.first > self.at:        # what was added here was dropped here
            del self.added[:self.first - self.at]
            self.at = self.first
        remarked = self.marks is not store.all_marks
        self.changes = self.cleans or remarked or bool(self.memory) or (self.first, self.next) != (was.first, was.next)
        self.serial = was.serial + self.changes
        self.state = was._replace(
            serial=self.serial, first=self.first, next=self.next, size_bytes=self.size_bytes, dropped=self.dropped,
            packed_marks=pack_marks(self.marks) if remarked else was.packed_marks)

    # --- removing ----------------------------------------------------------------------

    def _pop(self, operation):
        if operation.marks:
            try:
                self.marks = merged_marks(self.marks, operation.marks)
            except ZStreamPubError as error:
                self.outcomes.append((operation, None, error))
                return
        first = self.first if operation.first is None else operation.first
        next = min(first + operation.count, self._was.next)     # what front showed may have been dropped since
        removed = max(next - self.first, 0)
        if removed:
            self._remove(self.size_bytes if next == self._was.next else
                         sum(sum(map(len, items)) for items in self._store.lists_at(self.first, next)), removed)
        self.outcomes.append((operation, max(next - first, 0), None))

    def _remove(self, size, count=1):
        self.first += count
        self.size_bytes -= size
        self.removed_bytes += size

    # --- adding ------------------------------------------------------------------------

    def _add_or_refuse(self, operation):
        try:
            if self._full is not None:
                raise self._full
            marks = merged_marks(self.marks, operation.marks) if operation.marks else self.marks
            if self.blocked or not self._fits(len(operation.items), operation.size):
                self._make_fit(operation)
            else:
                self._add(operation, operation.items)
        except ZStreamPubError as error:
            self.outcomes.append((operation, None, error))
        else:
            if self.blocked[-1:] != [operation]:
                self.marks = marks
                self.memory |= operation.memory

    def _fits(self, count, size):
        return not self._store.is_over(self.next - self.first + count, self.size_bytes + size)

    def _add(self, operation, items):
        self.added += items
        self.next += len(items)
        self.size_bytes += operation.size if items is operation.items else sum(map(len, items))
        self.outcomes.append((operation, len(items), None))

    def _make_fit(self, operation):
        """The bounds are reached: see to *operation* as ``when_full`` says."""
        store = self._store
        if store.when_full == "refuse":
            raise SpoolFull(
                f"The store has {self.next - self.first} messages of {self.size_bytes} bytes; its bounds are "
                f"max_messages={store.max_messages}, max_bytes={store.max_bytes}. Pop some, or widen them.",
                path=store.path)
        if store.when_full == "block":
            self.blocked.append(operation)
        elif store.when_full == "drop":
            self._add_what_fits(operation)
        else:
            self._add(operation, operation.items)
            self._drop_oldest()

    def _add_what_fits(self, operation):
        kept, size = 0, 0
        for item in operation.items:
            if not self._fits(kept + 1, size + len(item)):
                break
            kept += 1
            size += len(item)
        self.dropped += len(operation.items) - kept
        self._add(operation, operation.items[:kept])

    def _drop_oldest(self):
        old = chain.from_iterable(self._store.lists_at(self.first, self._was.next))
        while not self._fits(0, 0):
            item = next(old, None)
            if item is None:
                item = self.added[self.first - self.at]
            self._remove(len(item))
            self.dropped += 1

    # --- on disk -------------------------------------------------------------------------

    def for_journal(self):
        """Return it as the journal keeps it."""
        return pack_commit(self.state, self.added)

    def write(self, txn, db):
        """Write it to LMDB, and all that only the journal has; may be run again."""
        tail = self._store.contents.tail
        items = tail.some(self.first, tail.next)
        for key, run in runs_of(tail.next - len(items) if items else self.at, items + self.added):
            txn.put(key, run, db=db.messages)
        self.leaves_garbage = delete_before(txn, db, self.first, self.next)
        write_memory(txn, db.messages, self.memory)
        self.state = self.state._replace(ground=new_ground())
        txn.put(STATE_KEY, self.state.pack(), db=db.messages)
