"""A steady beat: a file descriptor that becomes readable when the next message is due.

A native thread sleeps, for the timers of event loops are rounded to milliseconds, and it may be waited for in
gevent, in asyncio or by blocking. A beat that comes late is not left out: the time at which it was due counts.
"""

import os
import threading
import time
from contextlib import suppress

_PIECE = 65_536


class Beat:
    """*count* beats, *rate* a second, from :meth:`start` on; beat ``n`` is due at ``due(n)`` (``perf_counter``)."""

    def __init__(self, rate, count):
        self._rate = rate
        self._count = count
        self._fd, self._far = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stopped = threading.Event()
        self.began = None
        self.taken = 0      # beats that were due so far, as far as :meth:`take` knows

    def start(self):
        """Begin now; return when that was."""
        self.began = time.perf_counter()
        self._thread.start()
        return self.began

    def fileno(self):
        return self._fd

    def due(self, number):
        return self.began + number / self._rate

    def take(self):
        """Return how many more are due, 0 after the last one; blocks until one is, if none is yet."""
        more = len(os.read(self._fd, _PIECE))
        self.taken += more
        return more

    def stop(self):
        """End it, before its time or after; nobody may wait for it any more."""
        self._stopped.set()
        os.close(self._fd)      # first: the thread may wait for room in the pipe
        self._thread.join()

    def _run(self):
        given = 0
        with suppress(BrokenPipeError):     # it was stopped
            while given < self._count:
                if self._stopped.wait(max(self.due(given) - time.perf_counter(), 0)):
                    break
                until = min(int((time.perf_counter() - self.began) * self._rate) + 1, self._count)
                more = min(max(until - given, 1), _PIECE)
                os.write(self._far, b"." * more)
                given += more
        os.close(self._far)
