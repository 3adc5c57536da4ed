"""What this process was given of a work queue and has not settled yet, and how to find it again.

Used by any thread and greenlet at once: everything is done under a lock that is held only for moments.
"""

from weakref import ref

from gevent import getcurrent, monkey

_RLock = monkey.get_original("_thread", "RLock")


class Held:
    """Deliveries by offset, in the order in which they were taken.

    An item is known again by identity, as persist-queue does it. Small values exist only once in
    Python, so one object may stand for several deliveries: then the taker's own come first.
    """

    def __init__(self):
        self._lock = _RLock()       # also a signal may come in between
        self._taken = {}            # offset -> _Taken
        self._offsets = {}          # id(item) -> the offsets of its deliveries

    def __len__(self):
        return len(self._taken)

    def __contains__(self, offset):
        return offset in self._taken

    def add(self, offset, item, token):
        """Note that the caller was given *item*."""
        with self._lock:
            self.remove(offset)
            self._taken[offset] = _Taken(item, token, ref(getcurrent()))
            self._offsets.setdefault(id(item), []).append(offset)

    def remove(self, offset):
        """Forget it; return its token, None if it was not there."""
        with self._lock:
            taken = self._taken.pop(offset, None)
            if taken is None:
                return None
            offsets = self._offsets[id(taken.item)]
            offsets.remove(offset)
            if not offsets:
                del self._offsets[id(taken.item)]
            return taken.token

    def token(self, offset):
        """Return the token of the delivery that is held of *offset*, None if none is."""
        taken = self._taken.get(offset)
        return None if taken is None else taken.token

    def find(self, item):
        """Return the offset of *item*, None if it was not taken here.

        The very object, else one that the caller has taken itself and that is equal.
        """
        with self._lock:
            same = self._offsets.get(id(item), ())
            own = [offset for offset in same if self._taken[offset].is_own()]
            if own or same:
                return (own or same)[0]
            return next((offset for offset, taken in self._taken.items()
                         if type(taken.item) is type(item) and taken.is_own() and taken.item == item), None)

    def newest_own(self):
        """Return the offset of what the calling thread or greenlet has taken last, None if it holds nothing."""
        with self._lock:
            return next((offset for offset in reversed(self._taken) if self._taken[offset].is_own()), None)

    def deliveries(self):
        """Return ``[(offset, token), ...]`` of everything."""
        with self._lock:
            return [(offset, taken.token) for offset, taken in self._taken.items()]


class _Taken:
    __slots__ = ("item", "token", "_taker")

    def __init__(self, item, token, taker):
        self.item = item
        self.token = token
        self._taker = taker     # weak: a thread that has ended must not be mistaken for a later one

    def is_own(self):
        return self._taker() is getcurrent()
