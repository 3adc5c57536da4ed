"""Window: the first items of a FifoStore, in memory, so that looking at the front costs no look at the disk."""

from collections import deque
from itertools import islice

from .records import read_items

MOST_BYTES = 1 << 20
MOST_ITEMS = 16_384


class Window:
    """The items at positions ``first`` to ``next``; what follows is on disk. ``read(work, *arguments)`` reads it."""

    def __init__(self, first, items, read):
        self.first = first
        self._items = deque(items)
        self._size = sum(map(len, items))
        self._read = read

    @property
    def next(self):
        return self.first + len(self._items)

    def front(self):
        return self._items[0]

    def some(self, first, next):
        """Return the items at the positions that are in memory, at the start of those asked for."""
        return list(islice(self._items, first - self.first, next - self.first))

    def items(self, position, next):
        """Yield the items at *position* to *next*: from memory, then from disk."""
        if position < self.next:
            yield from islice(self._items, position - self.first, next - self.first)
            position = min(self.next, next)
        while position < next:
            position, items = self._read(read_items, position, next)
            yield from items
            position += len(items)

    def lacks(self, first, at, next):
        """Tell whether nothing is left to see of positions *first* to *next*, once what begins at *at* is added."""
        return first < next and first >= self.next and not at <= first

    def move(self, first, at, added, ahead=()):
        """Begin at *first*; take in *ahead*, which was read there, and *added*, from position *at* on, if it joins."""
        while self.first < first and self._items:
            self._size -= len(self._items.popleft())
            self.first += 1
        if not self._items:
            self.first = first
            self._take(ahead)
        if added and at <= self.next and self._size < MOST_BYTES and len(self._items) < MOST_ITEMS:
            self._take(added[self.next - at:])

    def _take(self, items):
        self._items.extend(items)
        self._size += sum(map(len, items))
