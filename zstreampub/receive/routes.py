"""Which callbacks want a message: the receiver's own, and those of single patterns. Any thread may change them."""

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
        self._tree = PatternTree()
        for pattern in self._own:
            self._tree.add(pattern, None)       # stands for the callback, whatever that is by then
        self._others = {}           # pattern -> [callbacks]
        self._gate = allocate_lock()

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
            there = self._others.setdefault(pattern, [])
            if callback not in there:
                there.append(callback)
                self._plant()

    def remove(self, pattern, callback=None):
        """Undo :meth:`add`, None: of all callbacks of *pattern*. Raises RequestError if there is no such."""
        with self._gate:
            there = self._others.get(pattern, [])
            gone = list(there) if callback is None else [one for one in there if one == callback]
            if not gone:
                raise RequestError(f"Nothing was subscribed to {pattern!r:.80}"
                                   f"{'' if callback is None else ' with this callback'}.", pattern=pattern)
            for one in gone:
                there.remove(one)
            if not there:
                del self._others[pattern]
            self._plant()

    def wanting(self, topic):
        """Return the callbacks that want a message of *topic*, each once."""
        own = self.callback
        found = (own if one is None else one for one in self._tree.match(topic))
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def _plant(self):
        """Make the tree anew, for others may be walking in the old one."""
        tree = PatternTree()
        for one in self._own:
            tree.add(one, None)
        for one, callbacks in self._others.items():
            for wanted in callbacks:
                tree.add(one, wanted)
        self._tree = tree
        self.changes += 1
