"""A steady beat: a file descriptor that becomes readable when the next message is due.

A native thread sleeps, for the timers of event loops are rounded to milliseconds, and it may be waited for in
gevent, in asyncio or by blocking. A beat that comes late is not left out: the time at which it was due counts.
"""

import os
import threading
import time

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
        """End it before its time, or after; whoever waits is told that there are no more."""
        self._stopped.set()
        self._thread.join()
        os.close(self._fd)

    def _run(self):
        given = 0
        while given < self._count and not self._stopped.is_set():
            pause = self.due(given) - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            until = min(int((time.perf_counter() - self.began) * self._rate) + 1, self._count)
            os.write(self._far, b"." * min(max(until - given, 1), _PIECE // 2))
            given += min(max(until - given, 1), _PIECE // 2)
        os.close(self._far)
