"""Contents: what a FifoStore has, in memory and on disk.

The messages at positions ``state.first`` to ``state.next``. Those before ``tail.first`` are in LMDB, the others in the
journal and in ``tail``, in memory; the first ones are in ``front`` as well. All but :meth:`first_items` and
:meth:`some_items` is for the thread that commits.
"""

from ..disk.journal import FILE_BYTES, Journal, new_ground
from ..errors import StoreFull
from .records import STATE_KEY, State, read_items, read_state, unpack_commit
from .stretch import Stretch

FRONT_BYTES = 1 << 20           # kept in memory, and one message more; LMDB is read for more when half is left
FRONT_MESSAGES = 16_384
MOST_BYTES = 64 << 10           # of a record in the journal: larger commits are better off in LMDB at once
DELETE_BYTES = 4 << 20          # when so much was removed, it is deleted from LMDB


class Contents:
    """*synced*: whether the journal is synced with each commit."""

    def __init__(self, path, synced):
        self._journal = Journal(path, "journal", synced)
        self._roomy = None          # whether there is room in LMDB for all of the journal; None: to be looked at
        self.removed_bytes = 0      # since the last checkpoint
        self.state = self.marks = self.front = self.tail = None
        self._saved = None          # the state as the disk has it: a count of what was dropped may be missing there

    # --- from disk ---------------------------------------------------------------------

    def make(self, txn, db):
        """Write what a new store has."""
        txn.put(STATE_KEY, State(ground=new_ground()).pack(), db=db.messages)

    def load(self, txn, db):
        """Return what :meth:`take_over` takes."""
        state = read_state(txn, db)
        tail = Stretch(state.next)
        for payload in self._journal.replay(state.ground):
            state, items = unpack_commit(payload)
            tail.cut(state.first)
            tail.extend(items)
        front = read_items(txn, db, state.first, tail.first)[1] or tail.some(state.first, state.next)
        return state, Stretch(state.first, front), tail

    def take_over(self, state, front, tail):
        self.state = self._saved = state
        self.marks = state.marks
        self.front, self.tail = front, tail
        self.removed_bytes = 0

    # --- looking -------------------------------------------------------------------------

    def some_items(self, position, next):
        """Return those at *position* to *next* that are in memory in a row, as a list; there may be none."""
        front = self.front
        if front.first <= position < front.next:
            return front.some(position, next)
        return self.tail.some(position, next) if position >= self.tail.first else []

    def first_items(self, count):
        """Return ``(position, items, missing, last)`` of the first *count*: *missing* in between are in LMDB only."""
        position = self.state.first
        next = min(position + count, self.state.next)
        items = self.some_items(position, next)
        here = position + len(items)
        tail_first = max(min(self.tail.first, next), here)
        return position, items, tail_first - here, self.tail.some(tail_first, next)

    def lists_at(self, position, next, read):
        """Yield the items at *position* to *next* in lists; ``read(work, *arguments)`` reads what is in LMDB only."""
        while position < next:
            items = self.some_items(position, next) or read(read_items, position, min(next, self.tail.first))[1]
            yield items
            position += len(items)

    # --- changing --------------------------------------------------------------------------

    def save(self, plan, environment):
        """Have *plan* on disk. Raises StoreFull."""
        plan.is_checkpoint = (
            plan.cleans or plan.memory or plan.removed_bytes >= DELETE_BYTES
            or (plan.added and not self._is_roomy(environment)) or not self._keep(plan.for_journal()))
        if plan.is_checkpoint:
            self._checkpoint(plan, environment)
            self._journal.restart(plan.state.ground)
            self._roomy = None
        self._saved = plan.state

    def _keep(self, record):
        return len(record) <= MOST_BYTES and self._journal.append(record)

    def _is_roomy(self, environment):
        """Tell whether LMDB can take what the journal may get to hold: else the one would be full for the other."""
        if self._roomy is None:
            self._roomy = environment.make_room(2 * FILE_BYTES)
        return self._roomy

    def _checkpoint(self, plan, environment):
        try:
            environment.write(plan.write)
        except StoreFull:
            if plan.added or plan.memory:
                raise
            environment.write(plan.write, removing=True)

    def read_ahead(self, plan, read):
        """Return the items that follow those in ``front`` once *plan* is applied, if few or none are left there."""
        front, tail = self.front, self.tail
        position = max(front.next, plan.first)
        if position < tail.first:
            return read(read_items, position, tail.first)[1] if position == plan.first or _is_low(front) else []
        return tail.some(position, plan.at) if position == plan.first else []

    def apply(self, plan, ahead):
        """*plan* is on disk."""
        front, tail = self.front, self.tail
        front.cut(plan.first)
        front.extend(ahead)
        if front.next == plan.at:
            front.extend(_as_far_as_it_fits(plan.added, front))
        if plan.is_checkpoint:
            self.tail = Stretch(plan.next)
            self.removed_bytes = DELETE_BYTES if plan.leaves_garbage else 0
        else:
            tail.cut(plan.first)
            tail.extend(plan.added)
            self.removed_bytes = plan.removed_bytes
        self.state, self.marks = plan.state, plan.marks

    def finish(self, plan, environment):
        """Have all in LMDB, if there is room: *plan* changes nothing else."""
        try:
            if not self._journal.is_empty or self.state != self._saved:
                environment.write(plan.write)
        except StoreFull:
            pass        # the journal has it

    def close(self):
        self._journal.close()


def _is_low(front):
    return front.size_bytes < FRONT_BYTES // 2 and len(front) < FRONT_MESSAGES // 2


def _as_far_as_it_fits(items, front):
    """Return those of *items* that *front* has room for; one more than it has, if there is any."""
    size, count = front.size_bytes, len(front)
    kept = 0
    while kept < len(items) and size < FRONT_BYTES and count + kept < FRONT_MESSAGES:
        size += len(items[kept])
        kept += 1
    return items[:kept]
