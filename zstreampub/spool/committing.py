"""Group commit: what threads and greenlets want written is written together, and each is told when it is on disk.

A thread without a hub commits itself whatever is waiting, its own and the others' (one leads, those that come
meanwhile follow): alone, it pays for one commit and no switch of threads. A greenlet must not
hold its hub for a disk, so a writer thread leads for it. Exactly one thread leads at a time.
"""

from collections import deque
from contextlib import suppress
from time import monotonic

import gevent
from gevent import monkey

from ..threads.waits import allocate_lock, has_hub, new_wait, start_thread

_SimpleQueue = monkey.get_original("queue", "SimpleQueue")

MOST_OPERATIONS = 10_000        # of one commit
MOST_BYTES = 16 << 20           # of one commit, unless a single operation has more


class Operation:
    """One thing that somebody wants done and waits for: ``result`` or ``error`` is there once it is ``settled``."""

    __slots__ = ("result", "error", "settled", "taken", "postponed", "wake", "green")
    size = 0        # bytes that it brings

    def __init__(self):
        self.result = self.error = self.wake = None
        self.settled = self.taken = self.postponed = self.green = False


class GroupCommit:
    """Runs ``commit(operations)`` in one thread at a time, never on a hub.

    It settles each of the operations, now or in a later call (:meth:`postpone`). If it raises, which only an
    interruption of the thread does, it is called again.
    """

    def __init__(self, commit):
        self._commit = commit
        self._busy = allocate_lock()    # who has it leads
        self._gate = allocate_lock()    # held for microseconds
        self._pending = deque()
        self._at_work = []              # what was taken and is, perhaps, not settled: an interruption loses nothing
        self._bell = None               # of the writer thread, once there is one
        self._rung = self._ended = False

    def run(self, operation, timeout_s=None):
        """Have *operation* done; return its result or raise its error. Whoever waits may be killed or interrupted.

        Return None if it was not begun within *timeout_s*: it will not be done then.
        """
        operation.green = has_hub()
        self._pending.append(operation)
        try:
            if operation.green:
                self._ring()
            else:
                self._try_to_lead()
            if not operation.settled and not self._wait(operation, timeout_s):
                return None
        except BaseException:
            self.withdraw(operation)
            self._pass_on()
            raise
        if operation.error is not None:
            raise operation.error
        return operation.result

    def _wait(self, operation, timeout_s):
        """Wait until it is settled; tell whether it is."""
        wait = new_wait()
        try:
            with self._gate:
                if operation.settled:
                    return True
                operation.wake = wait.wake
            if operation.green:
                return self._wait_green(operation, wait, timeout_s)
            return self._follow(operation, wait, timeout_s)
        finally:
            wait.leave()

    def _wait_green(self, operation, wait, timeout_s):
        if timeout_s is None:
            wait.wait()
            return True
        with gevent.Timeout(timeout_s, False):
            wait.wait()
        if not operation.settled:
            if self.withdraw(operation):
                return False
            wait.wait()
        return True

    def _follow(self, operation, wait, timeout_s):
        ends = None if timeout_s is None else monotonic() + timeout_s
        while not operation.settled:
            if not operation.taken and self._try_to_lead():
                continue
            left_s = -1 if ends is None else max(ends - monotonic(), 0)
            if not wait.wait(True, left_s) and not operation.settled:
                if self.withdraw(operation):
                    self._pass_on()
                    return False
                ends = None     # it is just being committed
        return True

    # --- leading -------------------------------------------------------------------------

    def _try_to_lead(self):
        """Commit what is waiting, if nobody leads; tell whether that was so."""
        if not self._busy.acquire(False):
            return False
        self._lead()
        return True

    def _lead(self):
        """With ``busy``: commit what is waiting, and let somebody else go on."""
        try:
            self._take()
            self._commit([one for one in self._at_work if not one.settled and not one.postponed])
            self._at_work = []
        except BaseException:
            self._ring()        # the writer thread is never interrupted
            raise
        finally:
            self._busy.release()
            self._pass_on()

    def _take(self):
        count = size = 0
        with self._gate:
            while self._pending and count < MOST_OPERATIONS and size < MOST_BYTES:
                operation = self._pending[0]
                if not operation.settled and not operation.taken:
                    operation.taken = True
                    self._at_work.append(operation)
                    count += 1
                    size += operation.size
                self._pending.popleft()

    def _pass_on(self):
        """Have somebody lead, if something waits."""
        with self._gate:
            while self._pending and self._pending[0].settled:
                self._pending.popleft()
            if not self._pending:
                return
            first = self._pending[0]
            wake = first.wake
        if first.green:
            self._ring()
        elif wake is not None:      # else it has not begun to wait, and will look first
            _wake(wake)

    def settle(self, operation, result=None, error=None):
        """Tell whoever waits for *operation* what came of it; the first of several calls counts."""
        with self._gate:
            if operation.settled:
                return
            operation.result, operation.error, operation.settled = result, error, True
            wake = operation.wake
        if wake is not None:
            _wake(wake)

    def postpone(self, operation):
        """Leave *operation* for later: what it waits for comes of another one. See :meth:`retake`."""
        operation.postponed = True

    def retake(self, operation):
        """Take up again what was postponed; tell whether anybody still waits for it."""
        with self._gate:
            operation.postponed = False
            return not operation.settled

    def withdraw(self, operation):
        """Take *operation* back; tell whether that was in time: it is not done then."""
        with self._gate:
            if operation.settled or (operation.taken and not operation.postponed):
                return False
            operation.settled = True
            return True

    # --- the writer thread ------------------------------------------------------------------

    def _ring(self):
        with self._gate:
            if self._rung:
                return
            self._rung = True
            if self._bell is None:
                self._bell = _SimpleQueue()
                start_thread(self._serve, (self._bell,))
        self._bell.put(True)

    def _serve(self, bell):
        """The writer thread."""
        while bell.get():
            self._rung = False
            self._busy.acquire()
            self._lead()
            if self._ended:
                return

    def end(self):
        """End the writer thread, once it has nothing to do; to be called while leading."""
        self._ended = True
        with self._gate:
            bell, self._bell, self._rung = self._bell, None, False
        if bell is not None:
            bell.put(True)


def _wake(wake):
    with suppress(RuntimeError):    # it was woken before and has not looked yet
        wake()
