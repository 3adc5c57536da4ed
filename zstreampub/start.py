"""Where a reader begins and ends: ``start`` and ``until`` as they were asked, turned into offsets."""

from .checks import whole, within
from .errors import InvalidOption, OffsetOutOfRange


class Starts:
    """Finds the place in *store* that a reader asks for; ``next()`` is the offset up to which was delivered."""

    def __init__(self, store, next):
        self._store = store
        self._next = next
        self._trims, self._trims_next = store.trim_mark(), (store.trim_mark(), next())

    def find(self, start, wanted, until):
        """Return the arguments of Subscription that say where it begins."""
        if start == "new":
            return dict(cursor=self._next(), live=True)
        trims = self.trims_of_delivered()
        if start == "earliest":
            return dict(cursor=self._store.bounds()[0], trims=trims)
        if start == "last":
            next = self._next()
            until = self.find_until(until)
            below = next if until is None else min(next, until)
            return dict(cursor=next, backlog=self._store.newest(wanted, below))
        if isinstance(start, dict) and len(start) == 1:
            (how, value), = start.items()
            if how == "time" and isinstance(value, (int, float)) and 0 <= value < 1e11:
                return dict(cursor=self._store.offset_at(int(value * 1e6)), trims=trims)
            if how == "last":
                count = within("start.last", value, None, 1, 1_000_000)
                return dict(cursor=self._store.offset_of_last(wanted, count), trims=trims)
        offset = whole(start)
        if offset is None:
            raise InvalidOption(f"start is 'new', 'earliest', 'last', an offset, {{'time': seconds}} or {{'last': n}}, "
                                f"not {start!r:.60}.", option="start")
        if not 0 <= offset <= self._next():
            raise OffsetOutOfRange(f"Offset {offset} is not in this log, which goes to {self._next()}. "
                                   "Was it made anew? Pass the epoch along to be sure.", next=self._next())
        return dict(cursor=offset)

    def find_until(self, until):
        if until is None:
            return None
        if until == "end":
            return self._next()
        offset = whole(until)
        if offset is None or not 0 <= offset < 1 << 62:
            raise InvalidOption(f"until is an offset or 'end', not {until!r:.60}.", option="until")
        return offset

    def trims_of_delivered(self):
        """Return a recent trim mark; whatever was trimmed up to then had been delivered.

        A store may trim what it has only just appended. Who starts before that is delivered must
        be told of it, so such trims do not count as made before the start.
        """
        trims, end = self._trims_next
        if end <= self._next():
            self._trims = trims
            # In this order: trims up to the mark are of messages below the end.
            self._trims_next = self._store.trim_mark(), self._store.bounds()[1]
            if self._trims_next[1] <= self._next():
                self._trims = self._trims_next[0]
        return self._trims
