"""ChunkBuilder: cuts what a read finds to what was asked for."""

from ..store import Chunk

LOOK_BATCHES = 1_000    # looked at in one read; keeps a transaction, and the hub's part, within milliseconds
LOOK_BYTES = 8 << 20


class ChunkBuilder:
    """Collects batches in offset order until the reader's range or its limits are used up.

    ``next`` is where the reader goes on.
    """

    def __init__(self, cursor, stop, max_messages, max_bytes):
        self.batches = []
        self.next = cursor
        self._cursor = cursor
        self._stop = stop
        self._messages = max(1, max_messages)
        self._bytes = self._max_bytes = min(max_bytes, LOOK_BYTES)
        self._look = LOOK_BATCHES

    def look(self, first, cost=1):
        """Count one more batch that is looked at; False if the reader should go on there another time."""
        self._look -= cost
        if self._look < 0 and first > self._cursor:
            self.next = first
            return False
        return True

    def has_room(self, size):
        """Tell whether a batch of *size* bytes may be taken; the first one always may."""
        return not self.batches or (self._messages > 0 and size <= self._bytes)

    def take(self, batch):
        """Take what is wanted of *batch*; False if nothing more can follow."""
        low = max(self._cursor - batch.first, 0)
        high = min(batch.count, self._stop - batch.first, low + self._messages)
        cut = batch.slice(low, high)
        if cut.size > self._bytes:
            cut = cut.slice(0, max(1, cut.count_within(self._max_bytes, cut.count)))
        self.batches.append(cut)
        self.next = cut.next
        self._messages -= cut.count
        self._bytes -= cut.size
        return cut.next == batch.next and self._messages > 0 and self._bytes > 0

    def finish(self):
        """Everything in the range was looked at."""
        self.next = max(self._stop, self._cursor)

    def chunk(self, gap, trims):
        return Chunk(self.batches, self.next, gap, trims)
