"""LmdbStore: a durable log in one directory.

The hub's side: it takes the calls, hands writing to the writer thread (writer.py) and reading
to a few reader threads (looking.py), and tells the follower. No call into LMDB is made on the
hub after the store is open.
"""

import os
import struct
from collections import deque

import gevent
from gevent.event import AsyncResult

from ..disk.directory import lock_directory, sync_directory, unlock_directory
from ..disk.environment import Environment, Layout
from ..errors import StoreCorrupt, StoreError
from .check import check_store
from .checkpoint import LmdbState, left_unclean
from .journal import read_journal
from .looking import Looking
from .notes import Notes
from .orders import Close, Fold, Guarding, Removed, Trim
from .producers import Producers
from .records import DATABASES
from .writer import Writer

_LAYOUT = Layout(
    DATABASES,
    "holds an LMDB environment that is not a zstreampub store of format 2 or 3. Name another directory. If zstreampub "
    "0.1 wrote it, read it with that version: 'zstreampub subscribe --start earliest --until end'.",
    "Trim it, set retention, raise max_store_bytes, or free space on the disk.")


class LmdbStore(Looking):
    """A log in *directory*, which is made if it is not there; open to one process at a time.

    With ``settings.durability == "relaxed"`` a power cut may take back the last commit, though
    it was answered; then, and after every other end without :meth:`close`, 2**20 offsets are
    left out, so that none is given twice. ``sync`` takes nothing back.

    ``committed()`` is called on the hub, before the follower is told, when LMDB has more or less than before: what
    other processes can see of it; see :meth:`show`.

    Raises StoreLocked, StoreCorrupt, StoreVersion, StoreError; nothing that is found is ever
    deleted or overwritten.
    """

    def __init__(self, directory, settings):
        self.directory = os.path.abspath(directory)
        self._settings = settings
        self._lock = lock_directory(self.directory)
        try:
            environment = Environment(self.directory, _LAYOUT, settings.max_store_bytes, settings.durability)
            try:
                state = self._open(environment)
            except BaseException:
                environment.close()
                raise
        except BaseException:
            unlock_directory(self._lock)
            raise
        super().__init__(environment, state)
        self.committed = _nothing
        self._seen = state.written, state.mark      # by other processes, if they looked
        self._deliver = self._died = self._removed = None
        self._pending = 0
        self._outcomes = deque()
        self._bell = gevent.get_hub().loop.async_()
        self._bell.start(self._tell)
        self._bell.ref = False      # an idle store does not keep a program running
        self._writer = Writer(self._environment, self._state, settings, self._told)

    def _open(self, environment):
        notes = Notes(self.directory, used=self._settings.durability == "sync")
        try:
            state, rows = environment.write(
                lambda txn, db: self._load(notes, txn, db, environment.fresh), removing=True)
        except (struct.error, ValueError, IndexError) as error:
            raise StoreCorrupt(f"{self.directory} holds a record that cannot be read ({error}). "
                               "Restore it from a backup.", path=self.directory) from error
        state.all_taken(rows)
        # The mark that the store is open must be on disk before the first offset is given out.
        environment.flush()
        sync_directory(self.directory)
        return state

    def _load(self, notes, txn, db, fresh):
        """Return the state that is found or made, and what :meth:`LmdbState.all_taken` is to be told."""
        state = LmdbState(self._settings, Producers(self._settings.max_producers), notes)
        unclean = False
        if fresh:
            state.create(txn, db)
        else:
            state.find_notes(txn, db)
            unclean = left_unclean(state.load(txn, db))
        rows = state.take_notes(txn, db)
        if unclean:
            state.skip_offsets()
        txn.put(b"state", state.ends(journal=state.journal_next).pack(), db=db.meta)
        return state, rows

    # --- writing -----------------------------------------------------------------

    def follow(self, deliver, died=None, removed=None):
        self._deliver, self._died, self._removed = deliver, died, removed

    def show(self, committed):
        """From now on other processes look into LMDB, and ``committed()`` wakes them; it must not wait.

        So LMDB has each append before it is told.
        """
        self.committed = committed
        self._writer.notes_runs = False
        self._order(Fold)

    def guard(self, guards):
        self._check_open()
        self._writer.put(Guarding(tuple(guards)))

    def append(self, append):
        self._check_open()
        self._hold_loop()
        self._writer.put(append)

    def trim(self, wanted, next):
        return self._order(lambda done: Trim(wanted, next, done)).count

    def close(self):
        if self._pid != os.getpid() or self._closing is not None:
            if self._closing is not None:
                self._closing.wait()
            return
        self._closing = AsyncResult()
        self._hold_loop()
        self._writer.put(Close(self._closing.set))
        self._closing.wait()
        self._readers.apply(self._environment.close)
        self._state.notes.close()
        self._readers.kill()
        self._bell.stop()
        self._bell.close()
        unlock_directory(self._lock)

    def _order(self, make):
        self._check_open()
        done = AsyncResult()
        self._hold_loop()
        self._writer.put(make(done.set))
        order = done.get()
        if order.error is not None:
            raise order.error
        return order

    def _hold_loop(self):
        if not self._pending:
            self._bell.ref = True
        self._pending += 1

    # --- telling the hub -----------------------------------------------------------

    def _told(self, outcome):
        """Take an outcome from the writer thread to the hub."""
        self._outcomes.append(outcome)
        self._bell.send()

    def _tell(self):
        appends, others = [], []
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if isinstance(outcome, list):
                appends += outcome
            else:
                others.append(outcome)
        self._pending -= len(appends)
        if self._seen != (self._state.written, self._state.mark):
            self._seen = self._state.written, self._state.mark
            self.committed()
        if appends and self._deliver is not None:
            self._deliver(appends)
        for outcome in others:
            if isinstance(outcome, Removed):
                if self._removed is not None:
                    self._removed(outcome.removals)
            elif not isinstance(outcome, StoreError):
                self._pending -= 1
                outcome.done(outcome)
            elif self._died is not None:
                self._died(outcome)
        if not self._pending:
            self._bell.ref = False

    # --- looking -------------------------------------------------------------------

    def _settled(self, next=None):
        next = super()._settled(next)
        if next > self._state.written:
            self._order(Fold)
        return next

    def journal(self):
        first, noted = self._state.notes.kept
        noted = list(noted)     # before the snapshot, which has what LMDB takes meanwhile
        found = self._read(read_journal)
        next = found[-1][0] + 1 if found else first
        return found + [(number, change) for number, change in enumerate(noted, first) if number >= next]

    def stats(self):
        writer, state = self._writer, self._state
        return {"kind": "lmdb", "epoch": self.epoch, "first": state.first, "next": state.end,
                "topics": len(state.topics), "producers": len(state.producers), "ids": len(state.ids),
                "journal": state.journal_next - state.kept_from,
                **self._in_thread(self._environment.info),
                "commits": writer.commits, "appended_messages": writer.appended_messages,
                "appended_bytes": writer.appended_bytes, "trimmed_messages": writer.keeper.removed_messages,
                "refused": writer.refused, "full": writer.full, "pending": self._pending,
                "group_batches": writer.group_batches.summary(), "commit_us": writer.commit_us.summary()}

    def check(self):
        self._settled()
        self._read(check_store, self._settings)



def _nothing():
    pass
