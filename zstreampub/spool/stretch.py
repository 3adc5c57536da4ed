"""Stretch: items at consecutive positions, in memory. A FifoStore has two: its front, and what only the journal has."""

from collections import deque
from itertools import islice


class Stretch:
    """The items at positions ``first`` to ``next``."""

    def __init__(self, first, items=()):
        self.first = first
        self._items = deque(items)
        self.size_bytes = sum(map(len, self._items))

    def __len__(self):
        return len(self._items)

    @property
    def next(self):
        return self.first + len(self._items)

    def item(self, position):
        return self._items[position - self.first]

    def some(self, first, next):
        """Return those of the items at positions *first* to *next* that are here, as a list."""
        first = max(first, self.first)
        return list(islice(self._items, first - self.first, max(next - self.first, 0)))

    def cut(self, first):
        """Forget what is before *first*, and begin there if nothing is left."""
        items = self._items
        if first >= self.next:
            items.clear()
            self.size_bytes = 0
        while items and self.first < first:
            self.size_bytes -= len(items.popleft())
            self.first += 1
        if not items:
            self.first = max(self.first, first)

    def extend(self, items):
        self._items.extend(items)
        self.size_bytes += sum(map(len, items))
