"""Which callbacks want a message: the receiver's own, and those of single patterns. Any thread may change them."""

from types import BuiltinMethodType, MethodType

from ..errors import InvalidOption, RequestError
from ..threads.waits import allocate_lock
from ..topics import PatternTree, check_pattern


class Routes:
    """``callback`` gets what matches *patterns*, the source's own; the others what matches theirs.

    ``changes`` counts what was added and removed.
    """

    def __init__(self, patterns, callback):
        self.callback = callback
        self.changes = 0
        self._own = tuple(map(check_pattern, patterns))
        self._others = {}           # pattern -> [_Entry]
        self._gate = allocate_lock()
        self._tree = self._planted()

    @property
    def patterns(self):
        """What the source is to be asked for: each pattern once."""
        with self._gate:
            own = self._own if self.callback is not None else ()
            return tuple(dict.fromkeys((*own, *self._others)))

    def replace(self, callback):
        """Have *callback* in the place of the receiver's own."""
        with self._gate:
            was, self.callback = self.callback, callback
            self.changes += (was is None) != (callback is None)

    def add(self, pattern, callback):
        """Call *callback* for messages that match *pattern*, too. Raises InvalidTopic, InvalidOption."""
        if not callable(callback):
            raise InvalidOption(f"A callback is a function of a message, not {callback!r:.60}.", option="callback")
        check_pattern(pattern)
        with self._gate:
            known = (one for entries in self._others.values() for one in entries if one.is_of(callback))
            entry = next(known, None) or _Entry(callback)
            there = self._others.setdefault(pattern, [])
            if entry not in there:
                there.append(entry)
                self._changed()

    def remove(self, pattern, callback=None):
        """Undo :meth:`add`, None: of all callbacks of *pattern*. Raises RequestError if there is no such."""
        with self._gate:
            there = self._others.get(pattern, [])
            gone = [one for one in there if callback is None or one.is_of(callback)]
            if not gone:
                raise RequestError(f"Nothing was subscribed to {pattern!r:.80}"
                                   f"{'' if callback is None else ' with this callback'}.", pattern=pattern)
            for one in gone:
                there.remove(one)
            if not there:
                del self._others[pattern]
            self._changed()

    def wanting(self, topic):
        """Return the callbacks that want a message of *topic*, each once."""
        found = self._tree.match(topic)
        own = self.callback
        if None not in found or own is None:
            return [one.callback for one in found if one is not None]
        return [own, *(one.callback for one in found if one is not None and not one.is_of(own))]

    def _changed(self):
        self._tree = self._planted()
        self.changes += 1

    def _planted(self):
        """Return a new tree, for others may be walking in the old one; None stands for the receiver's own callback."""
        tree = PatternTree()
        for pattern in self._own:
            tree.add(pattern, None)
        for pattern, entries in self._others.items():
            for entry in entries:
                tree.add(pattern, entry)
        return tree


class _Entry:
    """A callback of some patterns; two that are equal, as lists are, may be two all the same."""

    def __init__(self, callback):
        self.callback = callback

    def is_of(self, callback):
        """Tell whether it stands for *callback*; each look at a method of an object gives another object."""
        mine = self.callback
        return mine is callback or (isinstance(mine, (MethodType, BuiltinMethodType)) and mine == callback)
