"""A flag that any thread and any greenlet may set and wait for: a greenlet lets its hub go on meanwhile."""

from .waits import allocate_lock, new_wait


class Flag:
    """``set()`` wakes all who wait; ``clear()`` makes the next ones wait again. Works without a hub, too."""

    def __init__(self):
        self._gate = allocate_lock()
        self._waits = []
        self.is_set = False

    def set(self):
        with self._gate:
            self.is_set = True
            waits, self._waits = self._waits, []
            for wait in waits:
                wait.wake()

    def clear(self):
        self.is_set = False

    def wait(self, timeout_s=None):
        """Wait until it is set, at most *timeout_s*; return whether it is."""
        wait = new_wait()
        try:
            with self._gate:
                if self.is_set:
                    return True
                self._waits.append(wait)
            wait.wait_at_most(timeout_s)
        finally:
            with self._gate:
                if wait in self._waits:
                    self._waits.remove(wait)
            wait.leave()
        return self.is_set
