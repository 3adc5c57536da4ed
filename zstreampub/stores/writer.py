"""Writer: the one native thread that writes to the log.

It takes everything that is pending, decides it (group.py), has it on disk, and tells the hub;
while a commit is at the disk the next group gathers. A small group is noted with one wait for the
disk (notes.py), and LMDB takes it later, with others: *folding*. A large one, or one that brings more than
messages for known topics, goes to LMDB in one transaction. Between commits it removes (keeper.py).

A native thread also in a monkey-patched process, so nothing here may use what gevent
patches: no locks, no sleep, no logging. What the hub must do is handed to ``tell``.
"""

import time

from gevent.monkey import get_original

from ..disk.journal import FILE_BYTES
from ..errors import StoreClosed, StoreError, StoreFull
from ..stats import Histogram
from ..store import Append
from . import producers as dedup
from .checkpoint import pack_sequences
from .group import MAX_BATCHES, MAX_BYTES, MAX_MESSAGES, Group, refuse
from .journal import write_records
from .keeper import Keeper
from .orders import Close, Fold, Guarding
from .records import CLOSED, NUMBER, OFFSET, PAGE_TOPICS, Run, Segment, Tail

NOTE_BYTES = 32 << 10   # of messages; more is written to LMDB once, not twice
RUN_BYTES = 128 << 10
RUN_BATCHES = 4096
SEGMENT_BATCHES = 8192
SEGMENT_KEYS = 1 << 16
READER_CHECK_S = 60.0
FOLD_S = 1.0            # after so long LMDB takes what was noted
# That is always possible then: so much was free when the first run was noted, and the reserve is there, too.
FOLD_ROOM_BYTES = 2 * FILE_BYTES

_start_thread = get_original("_thread", "start_new_thread")
_SimpleQueue = get_original("queue", "SimpleQueue")
_Empty = get_original("queue", "Empty")


class Writer:
    """The thread, its queue, and what it counts.

    ``tell(outcome)`` is called in the thread: with a list of appends, in offset order; with a Removed;
    with a Trim or Close that is done; with the StoreError of which the thread has died. ``error`` is set once
    it has ended, however; everything that still comes is refused with it.
    """

    def __init__(self, environment, state, settings, tell):
        self._environment = environment
        self._state = state
        self._settings = settings
        self._tell = tell
        self._queue = _SimpleQueue()
        self.keeper = Keeper(environment, state, settings, tell)
        self.notes_runs = True      # somebody else may set it
        self._close = None
        self._folds = []
        self._fold_soon = False
        self._folded_at = time.monotonic()      # or when nothing was noted
        self._checked_at = time.monotonic()
        self.error = None
        self.commits = self.appended_messages = self.appended_bytes = 0
        self.full = self.refused = 0
        self.group_batches = Histogram()
        self.commit_us = Histogram()
        _start_thread(self._run, ())

    def put(self, order):
        """Queue an Append, Trim, Fold, Guarding or Close; never wait."""
        self._queue.put(order)
        if self.error is not None:
            self._refuse_pending()

    # --- the thread ----------------------------------------------------------------

    def _run(self):
        try:
            while self._close is None or self.keeper.trims:
                self._turn()
            self._finish()
        except BaseException as error:
            self._die(error)

    def _turn(self):
        appends = self._take()
        if not self._state.notes:
            self._folded_at = time.monotonic()
        if appends:
            self._commit(appends)
        if self._state.notes and self._is_time_to_fold(appends):
            self._fold()
        self._fold_soon = False
        self._tell_folds()
        self.keeper.turn(len(appends))
        if time.monotonic() - self._checked_at > READER_CHECK_S:
            self._environment.reader_check()
            self._checked_at = time.monotonic()

    def _is_time_to_fold(self, appends):
        return (not appends or self._fold_soon or self._folds or self.keeper.busy()
                or time.monotonic() - self._folded_at > FOLD_S)

    def _take(self):
        """Return the appends that are pending, as many as go into one transaction."""
        appends, size, messages, batches = [], 0, 0, 0
        order = self._first()
        while order is not None:
            if isinstance(order, Append):
                appends.append(order)
                size += order.size
                if order.changes or order.records:
                    size += _noted(order)
                batches += len(order.batches) or 1
                for batch in order.batches:
                    messages += batch.count
                if size >= MAX_BYTES or messages >= MAX_MESSAGES or batches >= MAX_BATCHES:
                    break
            elif isinstance(order, Fold):
                self._folds.append(order)
            elif isinstance(order, Close):
                self._close = order
                break
            else:
                self._fold_soon = True      # what is removed from now on may have been acknowledged in a note
                if self.keeper.order(order):
                    break
            order = self._next()
        return appends

    def _first(self):
        if self.keeper.busy():
            return self._next()
        try:
            patience_s = self.keeper.patience_s()
            return self._queue.get(timeout=min(patience_s, FOLD_S) if self._state.notes else patience_s)
        except _Empty:
            return None

    def _next(self):
        try:
            return self._queue.get_nowait()
        except _Empty:
            return None

    # --- appending -------------------------------------------------------------------

    def _commit(self, appends):
        began, commits = time.perf_counter_ns(), self.commits
        try:
            self._write_group(appends)
            if self.commits > commits:
                self.commit_us.add((time.perf_counter_ns() - began) // 1000)
        except BaseException as error:
            _refuse(appends, _dying(error))
            raise
        finally:
            self.refused += sum(append.error is not None for append in appends)
            self._tell(appends)

    def _write_group(self, appends):
        group = Group(appends, self._state, self._state.producers, self._settings)
        try:
            self._write_once(group)
        except StoreFull as error:
            self.full += 1
            others = group.fail_heavy(error) if not group.light else ()
            if others:
                self._write_group(others)
            else:
                group.fail(error)

    def _write_once(self, group):
        if group.empty:
            return
        runs = list(_runs(group)) if group.placed else []
        self._state.begin_round(len(group.placed))
        if self._note(group, runs):
            self._count(group, runs)
        else:
            self._write_to_lmdb(group, runs)
        self.commits += 1

    def _note(self, group, runs):
        """Note *group*, if it is small; tell whether it was."""
        state = self._state
        if not state.notes.used or not group.can_be_noted:
            return False
        if not runs:
            return state.note(group, None)
        (placed, packed), *more = runs
        if more or len(packed) > NOTE_BYTES or not self.notes_runs:
            return False
        if not state.notes.runs and not self._environment.make_room(FOLD_ROOM_BYTES):
            return False
        return state.note(group, (placed[0][1].first, packed))

    def _write_to_lmdb(self, group, runs, removing=False):
        """Have LMDB take what was noted, and then *group*; with *removing* out of the whole reserve."""
        state = self._state
        fresh = bool(runs or state.notes.runs)
        full_tail = fresh and (state.tail.batches >= SEGMENT_BATCHES or len(state.tail.keys) >= SEGMENT_KEYS)
        checkpoint, rows = self._environment.write(
            lambda txn, db: self._write(txn, db, group, runs, full_tail), removing, reserve=not runs and group.light)
        if fresh:
            state.some_saved(checkpoint)
        if full_tail:
            state.tail = Tail(state.end)
        self._count(group, runs)
        state.all_taken(rows)

    def _write(self, txn, db, group, runs, full_tail):
        """Write a group after what was noted; a few large puts, see records.py."""
        state, tail, checkpoint = self._state, self._state.tail, self._state.checkpoint
        if runs or state.notes.runs:
            self._write_log(txn, db, group, runs, full_tail)
            checkpoint = state.save_some(txn, db)
        if not runs:        # else they lie in the log
            for producer, sequences in group.touched.items():
                txn.put(producer, dedup.pack(sequences, group.time_us), db=db.producers)
        rows = state.write_rows(txn, db, group)
        if group.records:
            write_records(txn, db, group.records)
        txn.put(b"state", state.ends(next=group.end, time_us=group.time_us, checkpoint=checkpoint,
                                     segmented=state.end if full_tail else tail.first,
                                     journal=state.journal_next + len(group.changes)).pack(), db=db.meta)
        return checkpoint, rows

    def _write_log(self, txn, db, group, runs, full_tail):
        state, tail = self._state, self._state.tail
        items = [(OFFSET.pack(key), packed) for key, packed in state.notes.runs]
        items += [(OFFSET.pack(placed[0][1].first), packed) for placed, packed in runs]
        if txn.cursor(db.log).putmulti(items, append=True) != (len(items), len(items)):
            raise StoreError("The log has offsets beyond its end; the store is not written to any more.")
        if group.new_topics:
            txn.put(NUMBER.pack(len(state.topics) + 1), "\0".join(group.new_topics).encode(), db=db.names)
        if full_tail:
            txn.put(OFFSET.pack(tail.first), Segment.pack(tail, state.end), db=db.segments)

    def _count(self, group, runs):
        """Count a group that is on disk."""
        state = self._state
        if runs:
            self.appended_messages += group.messages
            self.appended_bytes += sum(len(packed) for _, packed in runs)
            self.group_batches.add(len(group.placed))
        with state.changing():
            for placed, _ in runs:
                state.tail.add(placed[0][1].first, placed)
            group.apply()
        state.changed_pages.update({(topic.id - 1) // PAGE_TOPICS for topic, _ in group.placed})

    def _fold(self):
        """Have LMDB take what was noted. Messages may use the whole reserve: before they are in, nothing is removed."""
        state = self._state
        try:
            self._write_to_lmdb(Group((), state, state.producers, self._settings), [], removing=bool(state.notes.runs))
        except StoreFull as error:      # it is on disk where it is
            for fold in self._folds:
                fold.error = error
            if state.notes.runs:
                self.keeper.put_off(error)

    def _tell_folds(self):
        folds, self._folds = self._folds, []
        for fold in folds:
            self._tell(fold)

    # --- ending ------------------------------------------------------------------------

    def _finish(self):
        state = self._state
        if state.notes.runs:
            self._fold()

        def write(txn, db):
            checkpoint = state.save_all(txn, db)
            state.write_rows(txn, db)
            txn.put(b"state", state.ends(checkpoint=checkpoint, journal=state.journal_next, session=CLOSED).pack(),
                    db=db.meta)
        try:
            if not state.notes.runs:
                self._environment.write(write, removing=True)
            self._environment.flush()
        except StoreFull:
            pass        # nothing is lost: it is counted on from the last checkpoint, and what was noted is found
        self.error = StoreClosed("The store is closed.")
        self._tell(self._close)
        self._refuse_pending()

    def _die(self, error):
        self.error = _dying(error)
        self.keeper.fail(self.error)
        for fold in self._folds:
            fold.error = self.error
        self._tell_folds()
        if self._close is not None:
            self._close.error = self.error
            self._tell(self._close)
        self._refuse_pending()
        self._tell(self.error)

    def _refuse_pending(self):
        order = self._next()
        while order is not None:
            if isinstance(order, Append):
                _refuse([order], self.error)
                self._tell([order])
            elif not isinstance(order, Guarding):
                order.error = self.error
                self._tell(order)
            order = self._next()


def _runs(group):
    """Yield the runs of a group: ``(placed, packed)``, of limited size."""
    placed, size, sequences = [], 0, pack_sequences(group.sequences)
    for topic, batch in group.placed:
        if placed and (size + batch.size > RUN_BYTES or len(placed) >= RUN_BATCHES):
            yield placed, _packed_run(placed, group.time_us, sequences)
            placed, size, sequences = [], 0, b""
        placed.append((topic, batch))
        size += batch.size
    yield placed, _packed_run(placed, group.time_us, sequences)


def _packed_run(placed, time_us, sequences):
    return Run.pack([(topic.id, batch) for topic, batch in placed], time_us, sequences)


def _noted(append):
    """Return the bytes that *append* brings besides its batches."""
    return sum(map(len, append.changes)) + sum(len(value or b"") for value in (append.records or {}).values())


def _refuse(appends, error):
    for append in appends:
        if append.error is None:
            refuse(append, error)


def _dying(error):
    if isinstance(error, StoreError):
        return error
    return StoreError(f"The writer of the store has stopped: {type(error).__name__}: {error}. "
                      "Start again; what was published is on disk.")
