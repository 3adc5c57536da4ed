"""Stretch: items at consecutive positions, in memory. A FifoStore has two: its front, and what only the journal has."""

from itertools import repeat


class Stretch:
    """The items at positions ``first`` to ``next``."""

    def __init__(self, first, items=()):
        self.first = first
        self._items = list(items)
        self._gone = 0          # at the start of the list are so many places that are empty by now
        self.size_bytes = sum(map(len, self._items))

    def __len__(self):
        return len(self._items) - self._gone

    @property
    def next(self):
        return self.first + len(self)

    def item(self, position):
        return self._items[self._gone + position - self.first]

    def some(self, first, next):
        """Return those of the items at positions *first* to *next* that are here, as a list."""
        base = self._gone - self.first
        return self._items[base + max(first, self.first):max(base + next, 0)]

    def cut(self, first):
        """Forget what is before *first*, and begin there if nothing is left."""
        items, gone = self._items, first - self.first
        if gone >= len(self):
            items.clear()
            self._gone = self.size_bytes = 0
        elif gone > 0:
            end = self._gone + gone
            self.size_bytes -= sum(map(len, items[self._gone:end]))
            items[self._gone:end] = repeat(None, gone)
            self._gone = end
            if end > len(items) // 2:       # to move the rest each time would cost as much as there is
                del items[:end]
                self._gone = 0
        self.first = max(self.first, first)

    def extend(self, items):
        self._items.extend(items)
        self.size_bytes += sum(map(len, items))
