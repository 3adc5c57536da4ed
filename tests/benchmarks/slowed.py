"""Processes that have a processor of their own, only a slow one: how a machine with more cores is seen on a small one.

Each runs for one slot of a period, in turn, and is stopped for the rest, so all that they do, in however many threads,
takes so many times longer, and while one runs no other does. What they wait for does not.
"""

import os
import signal
import threading
import time

PERIOD_S = 0.03
SLOT_S = 0.0015


class Slowed:
    """While this is entered, the processes *pids* are slow, ``PERIOD_S / SLOT_S`` times."""

    def __init__(self, pids):
        self._pids = pids
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)

    def _run(self):
        due = time.perf_counter()
        while not self._ended.is_set():
            for pid in self._pids:
                os.kill(pid, signal.SIGCONT)
                time.sleep(SLOT_S)
                os.kill(pid, signal.SIGSTOP)
            due += PERIOD_S
            time.sleep(max(due - time.perf_counter(), 0))
