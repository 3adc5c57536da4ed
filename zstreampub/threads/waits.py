"""How whoever asks another thread waits for it: a greenlet lets its hub go on, a thread without a hub holds a lock.

It works in monkey-patched programs too, for threads that are real.
"""

import gevent
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter

allocate_lock = monkey.get_original("_thread", "allocate_lock")
start_thread = monkey.get_original("_thread", "start_new_thread")
thread_id = monkey.get_original("_thread", "get_ident")     # the patched one tells greenlets apart

_LONGEST_S = 1e6        # more is too much for a lock


def new_wait(block=False):
    """Return what the calling greenlet or thread waits by.

    ``wait()`` waits, once, until ``wake()`` is called in any thread, and ``wait_at_most(seconds)`` no longer than
    that (None: as ``wait``); then ``leave()``.
    *block*: all of the calling thread waits, its other greenlets as well.
    """
    hub = None if block else get_hub_if_exists()
    return LockWait() if hub is None else HubWait(hub)


def end_hub():
    """End the hub of the calling thread, which is about to end, if something has made one."""
    hub = get_hub_if_exists()
    if hub is not None:
        hub.destroy(destroy_loop=True)


def has_hub():
    """Tell whether the calling thread has a hub: its greenlets wait for each other, and none may hold all of them."""
    return get_hub_if_exists() is not None


class LockWait:
    """How a thread without a hub waits."""

    def __init__(self):
        self._lock = allocate_lock()
        self._lock.acquire()
        self.wake = self._lock.release
        self.wait = self._lock.acquire

    def wait_at_most(self, seconds):
        self._lock.acquire(True, -1 if seconds is None else min(seconds, _LONGEST_S))

    def leave(self):
        """Be done with it."""


class HubWait:
    """How a greenlet waits, of another hub than the one where the call runs."""

    def __init__(self, hub):
        self._waiter = Waiter(hub)
        self.wait = self._waiter.get
        self._bell = hub.loop.async_()
        self._bell.start(self._waiter.switch, None)
        self._gate = allocate_lock()

    def wait_at_most(self, seconds):
        with gevent.Timeout(seconds, False):
            self.wait()

    def wake(self):
        with self._gate:
            if self._bell is not None:
                self._bell.send()

    def leave(self):
        with self._gate:        # a bell must not be rung once it is closed
            bell, self._bell = self._bell, None
        bell.stop()
        bell.close()
