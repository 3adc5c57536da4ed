"""Spool: what FifoStore and LatestStore have in common: a directory, its commits, and what happens when one fails.

What is in memory is what the last commit left on disk. A thread that commits may be interrupted anywhere
(Ctrl-C); then nobody knows whether the disk has it, until the next one who commits has looked.
"""

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import Any

import gevent

from ..checks import within
from ..disk.directory import lock_directory, unlock_directory
from ..disk.environment import Environment
from ..errors import InvalidOption, StoreClosed, StoreError, StoreFull
from ..threads.pool import in_pool
from ..threads.waits import allocate_lock, has_hub
from .committing import GroupCommit, Operation
from .memory import prefix_of

MAX_DISK_BYTES = 64 << 30


class Close(Operation):
    """Ends the store, once all that waits is written."""

    __slots__ = ()


class Look(Operation):
    """Wants nothing but that what is in memory is right again."""

    __slots__ = ()


class Spool(ABC):
    """A store in the directory *path*, which is made if it is not there. See FifoStore for the options.

    A subclass keeps in memory what it has on disk (``state``, with the number of the last commit in ``serial``, and
    ``all_marks``) and makes the plans. A plan has ``changes`` (anything on disk), ``serial``, the number of its
    commit, ``outcomes``: what each operation gets, and what the subclass needs to save and apply it.
    """

    state: Any
    all_marks: Any

    def __init__(self, path, layout, durability, max_disk_bytes, lmdb_durability=None):
        if durability not in ("sync", "relaxed"):
            raise InvalidOption(f"durability is 'sync' or 'relaxed', not {durability!r:.40}.", option="durability")
        within("max_disk_bytes", max_disk_bytes, None, 1 << 20, 1 << 46)
        self.path = os.path.abspath(os.fspath(path))
        self._process = os.getpid()
        self._closed = False
        self._lock = lock_directory(self.path)
        self._gate = allocate_lock()    # over what is in memory; held for microseconds, but never by two commits
        self._unsettled = None          # the plan that may or may not be on disk, or whose operations were not all told
        self._torn = False
        self._group = GroupCommit(self._commit)
        try:
            self._environment = Environment(self.path, layout, max_disk_bytes, lmdb_durability or durability)
            try:
                if self._environment.fresh:
                    self._environment.write(self._make)
                self._reload()
            except BaseException:
                self._environment.close()
                raise
        except BaseException:
            unlock_directory(self._lock)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Write what waits, then close. Calling it again does nothing."""
        if self._process != os.getpid() or self._closed:
            return
        self._group.run(Close())

    def __bool__(self):
        """A store is true, also when it is empty: it is a callback."""
        return True

    @property
    def size_bytes(self):
        """Bytes of all messages, as kept."""
        self._check_open()
        return self.state.size_bytes

    @property
    def dropped(self):
        """How many messages (of a LatestStore: topics or keys) the bounds have cost, ever."""
        self._check_open()
        return self.state.dropped

    # --- marks ---------------------------------------------------------------------------

    def mark(self, name):
        """Return the value that the mark *name* has on disk, None if there is none."""
        self._check_open()
        return self.all_marks.get(name)

    @property
    def marks(self):
        """All marks: name -> value."""
        self._check_open()
        return dict(self.all_marks)

    def memory(self, name):
        """Return the records that *name* has kept: bytes -> bytes. A receiver keeps there what its filter remembers."""
        self._check_open()
        return self._read(self._load_memory, prefix_of(name))

    # --- for subclasses -----------------------------------------------------------------

    def _check_open(self):
        if self._process != os.getpid():
            raise StoreClosed("The store was opened by another process and is of no use after a fork. "
                              "Open it in the process that uses it.")
        if self._closed:
            raise StoreClosed("The store is closed.")

    def _run(self, operation, timeout_s=None):
        self._check_open()
        return self._group.run(operation, timeout_s)

    def _read(self, work, *arguments):
        """Read from disk: a greenlet does so in another thread."""
        if not has_hub():
            return self._environment.read(work, *arguments)
        return in_pool(gevent.get_hub().threadpool, self._environment.read, work, *arguments)

    @contextmanager
    def _looking(self):
        """Hold still what is in memory, for microseconds."""
        self._check_open()
        self._gate.acquire()
        try:
            while self._torn:       # the thread that was at it was interrupted
                self._gate.release()
                try:
                    self._run(Look())
                finally:
                    self._gate.acquire()
            yield
        finally:
            self._gate.release()

    # --- committing: one thread at a time, never a hub ---------------------------------------

    def _commit(self, operations):
        if self._closed:
            self._tell((operation, None, StoreClosed("The store is closed.")) for operation in operations)
            return
        try:
            if self._unsettled is not None:
                operations = self._find_out(operations)
            self._commit_once(operations)
        except Exception as error:
            # Whatever the disk has now: what is in memory is read again before the next commit.
            self._tell((operation, None, _dying(error)) for operation in operations if type(operation) is not Close)
            self._postpone_again()
        closing = [operation for operation in operations if type(operation) is Close]
        if closing:
            self._end(closing)

    def _commit_once(self, operations):
        plan = self._plan(operations)
        try:
            self._write(plan)
        except StoreFull:
            plan = self._commit_with_more_room(operations)
        self._tell(plan.outcomes)
        self._unsettled = None

    def _commit_with_more_room(self, operations):
        """Delete what was removed and try again; else do what removes, and refuse what brings something."""
        self._unsettled = None
        try:
            self._write(self._cleaning_plan())
            self._unsettled = None
            plan = self._plan(operations)
            self._write(plan)
        except StoreFull as error:
            self._unsettled = None
            plan = self._plan(operations, error)
            self._write(plan)
        return plan

    def _write(self, plan):
        if plan.changes:
            self._unsettled = plan
            self._save(plan)
        ahead = self._read_ahead(plan)
        with self._gate:
            self._torn = True
            self._apply(plan, ahead)
            self._torn = False

    def _find_out(self, operations):
        """Look whether the plan that was interrupted is on disk; return those of *operations* that are still to do."""
        self._reload()
        if self.state.serial == self._unsettled.serial:
            self._tell(self._unsettled.outcomes)
        self._unsettled = None
        self._postpone_again()
        return [operation for operation in operations if not operation.settled]

    def _postpone_again(self):
        """A commit failed: what waited before it waits on."""
        for operation in self._postponed():
            self._group.postpone(operation)

    def _reload(self):
        loaded = self._environment.read(self._load)
        with self._gate:
            self._torn = True
            self._take_over(*loaded)
            self._torn = False

    def _tell(self, outcomes):
        for operation, result, error in outcomes:
            self._group.settle(operation, result, error)

    def _end(self, closing):
        self._closed = True
        self._tell((operation, None, StoreClosed("The store is closed.")) for operation in self._postponed())
        error = None
        try:
            self._finish()
        except Exception as raised:
            error = _dying(raised)
        self._let_go()
        self._group.end()
        self._tell((operation, True, error) for operation in closing)

    def _let_go(self):
        self._environment.close()
        unlock_directory(self._lock)

    # --- what a subclass has ------------------------------------------------------------------

    @abstractmethod
    def _make(self, txn, db):
        """Write what a new store has."""

    @abstractmethod
    def _load(self, txn, db):
        """Return what :meth:`_take_over` is to put in memory."""

    @abstractmethod
    def _load_memory(self, txn, db, prefix):
        """Return the memory under *prefix*."""

    @abstractmethod
    def _take_over(self, *loaded):
        """Take *loaded* for what is on disk."""

    @abstractmethod
    def _plan(self, operations, full=None):
        """Return the plan of *operations*; *full* is the error for those that need room."""

    @abstractmethod
    def _apply(self, plan, ahead):
        """*plan* is on disk: have it in memory, with what :meth:`_read_ahead` returned."""

    @abstractmethod
    def _save(self, plan):
        """Have *plan* on disk. Raises StoreFull."""

    def _finish(self):
        """Do the last thing before the store is closed."""
        self._environment.flush()

    def _read_ahead(self, plan):
        """Return what is to be read before *plan* is applied."""
        return ()

    def _cleaning_plan(self):
        """Return the plan that deletes what was removed, if that is left for later."""
        return self._plan([])

    def _postponed(self):
        """Return the operations that wait for another one."""
        return ()


def _dying(error):
    if isinstance(error, StoreError):
        return error
    return StoreError(f"The store could not write: {type(error).__name__}: {error}. What it answered is on disk.")
