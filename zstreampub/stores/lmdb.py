"""LmdbStore: a durable log in one directory.

The hub's side: it takes the calls, hands writing to the writer thread (writer.py) and reading
to a few reader threads (reading.py), and tells the follower. No call into LMDB is made on the
hub after the store is open.
"""

import os
import struct
from collections import deque

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from ..disk.directory import lock_directory, sync_directory, unlock_directory
from ..disk.environment import READ_THREADS, Environment, Layout
from ..errors import StoreClosed, StoreCorrupt, StoreError
from ..store import Store
from ..threads.pool import in_pool
from . import measuring, reading
from .check import check_store
from .checkpoint import LmdbState, left_unclean
from .journal import read_journal, read_records
from .notes import Notes
from .orders import Close, Fold, Guarding, Removed, Trim
from .producers import Producers
from .records import DATABASES
from .writer import Writer

MESSAGES_PER_READ = 500     # single messages looked up in one transaction
NEWEST_TRIES = 3

_LAYOUT = Layout(
    DATABASES,
    "holds an LMDB environment that is not a zstreampub store of format 2 or 3. Name another directory. If zstreampub "
    "0.1 wrote it, read it with that version: 'zstreampub subscribe --start earliest --until end'.",
    "Trim it, set retention, raise max_store_bytes, or free space on the disk.")


class LmdbStore(Store):
    """A log in *directory*, which is made if it is not there; open to one process at a time.

    With ``settings.durability == "relaxed"`` a power cut may take back the last commit, though
    it was answered; then, and after every other end without :meth:`close`, 2**20 offsets are
    left out, so that none is given twice. ``sync`` takes nothing back.

    Raises StoreLocked, StoreCorrupt, StoreVersion, StoreError; nothing that is found is ever
    deleted or overwritten.
    """

    def __init__(self, directory, settings):
        self._directory = os.path.abspath(directory)
        self._settings = settings
        self._lock = lock_directory(self._directory)
        try:
            self._environment = Environment(self._directory, _LAYOUT, settings.max_store_bytes,
                                            settings.durability)
            try:
                self._state = self._open()
            except BaseException:
                self._environment.close()
                raise
        except BaseException:
            unlock_directory(self._lock)
            raise
        self.epoch = self._state.epoch
        self._pid = os.getpid()
        self._closing = None
        self._deliver = self._died = self._removed = None
        self._pending = 0
        self._outcomes = deque()
        hub = gevent.get_hub()
        self._readers = ThreadPool(READ_THREADS, hub=hub)
        self._bell = hub.loop.async_()
        self._bell.start(self._tell)
        self._bell.ref = False      # an idle store does not keep a program running
        self._writer = Writer(self._environment, self._state, settings, self._told)

    def _open(self):
        notes = Notes(self._directory, used=self._settings.durability == "sync")
        try:
            state, rows = self._environment.write(lambda txn, db: self._load(notes, txn, db), removing=True)
        except (struct.error, ValueError, IndexError) as error:
            raise StoreCorrupt(f"{self._directory} holds a record that cannot be read ({error}). "
                               "Restore it from a backup.", path=self._directory) from error
        state.all_taken(rows)
        # The mark that the store is open must be on disk before the first offset is given out.
        self._environment.flush()
        sync_directory(self._directory)
        return state

    def _load(self, notes, txn, db):
        """Return the state that is found or made, and what :meth:`LmdbState.all_taken` is to be told."""
        state = LmdbState(self._settings, Producers(self._settings.max_producers), notes)
        unclean = False
        if self._environment.fresh:
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

    # --- reading -------------------------------------------------------------------

    def bounds(self):
        return self._state.first, self._state.end

    def trim_mark(self):
        return self._state.mark

    def read(self, cursor, wanted, next, max_messages, max_bytes, trims):
        def work():
            choice = reading.Choice(self._state, wanted)    # before the snapshot
            return self._environment.read(
                reading.read, self._state, choice, cursor, wanted, next, max_messages, max_bytes, trims)
        self._fold(next)
        return self._in_thread(work)

    def get(self, offset):
        if not 0 <= offset < self._state.end:
            self._check_open()
            return None
        self._fold(offset + 1)
        return self._read(reading.message_at, self._state, offset)

    def last(self, topic, key=None):
        found = self._state.topics.by_name.get(topic)
        if found is None or not found.messages:
            self._check_open()
            return None
        while True:
            sought = reading.Sought(self._state, found, key)
            self._fold(sought.next)
            batch, mark = self._read(reading.last, self._state, sought)
            if batch is not None or mark <= sought.mark:    # else it has been removed in between
                return batch

    def newest(self, wanted, next):
        for _ in range(NEWEST_TRIES):
            mark = self._state.mark
            self._fold(next)
            batches, complete = self._newest(wanted, next)
            if complete or mark == self._state.mark:
                break           # else one of them was removed in between, for there is a newer one
        return batches

    def _newest(self, wanted, next):
        choice, offsets, behind = self._in_thread(self._newest_offsets, wanted, next)
        if behind:
            offsets += self._read(reading.newest_below, choice, behind, next)
        offsets.sort()
        batches = []
        for at in range(0, len(offsets), MESSAGES_PER_READ):    # a turn for each, see offset_of_last
            batches += self._read(reading.messages_at, self._state, offsets[at:at + MESSAGES_PER_READ])
        return batches, len(batches) == len(offsets)

    def _newest_offsets(self, wanted, next):
        choice = reading.Choice(self._state, wanted)
        offsets, behind = [], set()
        for topic in choice.selected:
            if topic.messages and topic.trimmed_next < topic.next <= next:
                offsets.append(topic.next - 1)
            elif topic.messages and topic.first < next:
                behind.add(topic.id)
        return choice, offsets, behind

    def offset_at(self, time_us):
        end = self._state.end
        self._fold(end)
        return self._read(reading.offset_at, end, time_us)

    def offset_of_last(self, wanted, count):
        choice = self._in_thread(reading.Choice, self._state, wanted)
        self._fold(choice.end)
        offset = before = choice.end
        while count > 0 and before:     # a turn for each step, for others wait for the threads as well
            found, count, before = self._read(reading.count_back, choice, before, count)
            offset = offset if found is None else found
        return offset

    def topics(self, wanted):
        return self._in_thread(self._state.topics.maps, wanted)

    def measure(self, wanted, first, next):
        count = self._in_thread(measuring.Measuring, self._state, wanted, first, next)
        self._fold(next)
        while not count.done:       # a turn for each step, see offset_of_last
            self._read(count.step)
        return count.measure()

    def journal(self):
        first, noted = self._state.notes.kept
        noted = list(noted)     # before the snapshot, which has what LMDB takes meanwhile
        found = self._read(read_journal)
        next = found[-1][0] + 1 if found else first
        return found + [(number, change) for number, change in enumerate(noted, first) if number >= next]

    def records(self, prefix, after=None, most=1000):
        return self._read(read_records, prefix, after, most)

    # --- care ----------------------------------------------------------------------

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
        self._fold(self._state.end)
        self._read(check_store, self._settings)

    # --- threads -------------------------------------------------------------------

    def _fold(self, next):
        """Wait until LMDB has taken what was noted below *next*: those who read see nothing else."""
        if min(next, self._state.end) > self._state.written:
            self._order(Fold)

    def _read(self, work, *arguments):
        return self._in_thread(self._environment.read, work, *arguments)

    def _in_thread(self, function, *arguments):
        self._check_open()
        return in_pool(self._readers, function, *arguments)

    def _check_open(self):
        if self._pid != os.getpid():
            raise StoreClosed("The store was opened by another process and is of no use after a fork. "
                              "Open it in the process that uses it.")
        if self._closing is not None:
            raise StoreClosed("The store is closed.")
