"""Guards: what consumers hold back from retention, asked about topic after topic."""

from ..topics import PatternTree

ENDLESS = 1 << 62


class Guards:
    """The guards of a store. They are replaced as a whole, and often, with the same patterns a little further on."""

    def __init__(self):
        self._guards = ()
        self._kinds = []        # (name, patterns) of each
        self._tree = PatternTree()
        self._oldest = {}       # topic -> the guard that holds most of it, or None

    def __len__(self):
        return len(self._guards)

    def replace(self, guards):
        """Take *guards* for all earlier ones; return the stretches of the log in which something may be free now."""
        before = list(zip(self._kinds, self._guards))
        kinds = [(guard.name, guard.wanted.patterns) for guard in guards]
        if kinds != self._kinds:
            self._kinds = kinds
            self._tree = PatternTree()
            for at, guard in enumerate(guards):
                for pattern in set(guard.wanted.patterns):
                    self._tree.add(pattern, at)
        self._guards = tuple(guards)
        self._oldest = {}
        firsts = {}
        for kind, guard in zip(kinds, guards):
            firsts[kind] = min(guard.first, firsts.get(kind, guard.first))
        stretches = ((old.first, firsts.get(kind, ENDLESS)) for kind, old in before)
        return [stretch for stretch in stretches if stretch[0] < stretch[1]]

    def oldest(self, topic):
        """Return the guard that holds most of *topic*, or None."""
        if not self._guards:
            return None
        if topic not in self._oldest:
            found = [self._guards[at] for at in self._tree.match(topic)]
            self._oldest[topic] = min(found, key=lambda guard: guard.first, default=None)
        return self._oldest[topic]

    def first(self, topic):
        """Return the offset from which on *topic* is held; ``ENDLESS`` if nobody holds it."""
        guard = self.oldest(topic)
        return ENDLESS if guard is None else guard.first
