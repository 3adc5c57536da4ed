"""How much of the log is still to come for a consumer: counted once, and from then on only what is different."""

from ..store import Measure

_NEAR = 1_000       # messages between where it was counted and the cursor are counted again rather


class Backlog:
    """Measures ``[cursor, next)`` for *wanted*; exact, for whenever something was removed it counts anew.

    Of a batch that the cursor cuts in two the bytes of its head are left out. So it does not go on from there: the
    bytes of two pieces are more than those of both together, and that would add up.
    """

    def __init__(self, store, wanted):
        self._store = store
        self._wanted = wanted
        self._known = None      # (trim mark, first, next, messages, bytes): what it goes on from
        self._last = None       # the same, of the last answer

    def measure(self, cursor, next):
        """Return ``(messages, bytes)``; may wait for the store."""
        mark, known = self._store.trim_mark(), self._known
        if self._last is not None and self._last[:3] == (mark, cursor, next):
            return self._last[3:]
        if known is None or known[0] != mark or not known[1] <= cursor <= known[2] <= next:
            found = self._count_anew(mark, cursor, next)
        else:
            _, first, end, messages, size = known
            gone, more = self._count(first, cursor), self._count(end, next)
            messages, size = messages + more.messages, size + more.bytes
            found = messages - gone.messages, size - gone.bytes
            known = mark, first, next, messages, size
            if gone.messages > _NEAR and not self._cuts(cursor):
                known = mark, cursor, next, *found
            if self._store.trim_mark() != mark:
                found = self._count_anew(mark, cursor, next)
            else:
                self._known = known
        self._last = mark, cursor, next, *found
        return found

    def _count_anew(self, mark, cursor, next):
        found = self._count(cursor, next)
        self._known = mark, cursor, next, found.messages, found.bytes
        return found.messages, found.bytes

    def _cuts(self, cursor):
        """Tell whether *cursor* is in the middle of a batch."""
        one, other = self._count(cursor - 1, cursor), self._count(cursor, cursor + 1)
        return self._count(cursor - 1, cursor + 1).bytes != one.bytes + other.bytes

    def _count(self, first, next):
        return self._store.measure(self._wanted, first, next) if first < next else Measure(0, 0, None)
