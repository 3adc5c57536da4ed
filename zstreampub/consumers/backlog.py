"""How much of the log is still to come for a consumer: counted once, and from then on only what is different."""

from ..store import Measure


class Backlog:
    """Measures ``[cursor, next)`` for *wanted*; exact, for whenever something was removed it counts anew."""

    def __init__(self, store, wanted):
        self._store = store
        self._wanted = wanted
        self._known = None      # (trim mark, cursor, next, messages, bytes)

    def measure(self, cursor, next):
        """Return ``(messages, bytes)``; may wait for the store."""
        mark, known = self._store.trim_mark(), self._known
        if known is None or known[0] != mark or not known[1] <= cursor <= known[2] <= next:
            found = self._count(cursor, next)
        else:
            _, first, end, messages, size = known
            gone, more = self._count(first, cursor), self._count(end, next)
            found = Measure(messages - gone.messages + more.messages, size - gone.bytes + more.bytes, None)
            if self._store.trim_mark() != mark:
                found = self._count(cursor, next)
        self._known = mark, cursor, next, found.messages, found.bytes
        return found.messages, found.bytes

    def _count(self, first, next):
        return self._store.measure(self._wanted, first, next) if first < next else Measure(0, 0, None)
