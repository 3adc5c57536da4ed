"""The keys of the messages that wait for their time: the nearest in memory, all of them in the store.

KEY is when a message is due (microseconds since the epoch), the order of scheduling and a tag,
8 bytes each, so the store has the keys in the order in which they are due. Each message is two
records: its *place* (``scheduled/KEY`` -> size and topic) and its *body* (``scheduled-body/KEY`` ->
the packed batch), so that looking at many places reads no bodies.
"""

import heapq
import struct
from typing import NamedTuple

PLACES = b"scheduled/"
BODIES = b"scheduled-body/"
NEAREST = 4096          # keys in memory; twice as many before the farthest are let go
READ = 10_000           # places in one read where all are looked at

_KEY = struct.Struct(">QQ8s")
_SIZE = struct.Struct(">I")


class Place(NamedTuple):
    """What waits under *key*: a batch of *size* bytes for *topic*."""

    key: bytes
    size: int
    topic: str

    def as_map(self):
        """Return what an operator sees; ``at`` is in seconds."""
        return {"id": self.key.hex(), "topic": self.topic, "at": due_of(self.key) / 1e6, "size": self.size}


def make_key(due_us, order, tag):
    return _KEY.pack(due_us, order, tag)


def due_of(key):
    return int.from_bytes(key[:8], "big")


def tag_of(key):
    return key[-8:]


def key_of(id):
    """Return the key that *id*, the text of :meth:`Place.as_map`, stands for; None if it is none."""
    try:
        key = bytes.fromhex(id)
    except ValueError:
        return None
    return key if len(key) == _KEY.size and key.hex() == id else None


def records_of(key, batch):
    """Return the records that keep *batch* under *key*."""
    return {PLACES + key: _SIZE.pack(batch.size) + batch.topic.encode(), BODIES + key: batch.packed}


def without(keys):
    """Return the records that take *keys* away."""
    return {prefix + key: None for key in keys for prefix in (PLACES, BODIES)}


def places(store, after=None, most=READ):
    """Yield every Place in *store* after the key *after*, in order; reads *most* at a time."""
    after = None if after is None else PLACES + after
    while rows := store.records(PLACES, after, most):
        for row in rows:
            yield _place(*row)
        after = rows[-1][0]


def bodies(store, keys):
    """Return a dict of key -> packed batch of those of *keys* (sorted) that still wait."""
    found, wanted = {}, set(keys)
    after = BODIES + _before(keys[0])
    while rows := store.records(BODIES, after, len(keys)):
        found.update((key, body) for name, body in rows if (key := name[len(BODIES):]) in wanted)
        after = rows[-1][0]
        if after >= BODIES + keys[-1]:
            break
    return found


class Waiting:
    """Which keys are next. Keys may come out that do not wait any more, or twice: the store knows."""

    def __init__(self, store):
        self._store = store
        self._heap = []             # of (key, size)
        self._known_to = b""        # places up to this key are in the heap; None: all
        self._noted = None          # while places are read: those that came meanwhile

    def __len__(self):
        return len(self._heap)

    def count(self):
        """Return how many wait in the store (called once, before any is added)."""
        count = sum(1 for _ in places(self._store))
        if not count:
            self._known_to = None
        return count

    def add(self, key, size):
        """Take note that there is a message of *size* bytes; return whether it is the next now."""
        if self._known_to is None or key <= self._known_to:
            return self._push(key, size)
        if self._noted is not None:
            self._noted.append((key, size))
        return False

    def take(self, now_us, most, most_bytes, leaving):
        """Take what is due at *now_us*: a sorted list of ``(key, size)``, at most so many, without those *leaving*."""
        heap, due = self._heap, []
        while heap and due_of(heap[0][0]) <= now_us and len(due) < most and (not due or heap[0][1] <= most_bytes):
            key, size = heapq.heappop(heap)
            if key not in leaving and (not due or key != due[-1][0]):
                due.append((key, size))
                most_bytes -= size
        return due

    @property
    def next_us(self):
        """When the next is due, None if none is in memory."""
        return due_of(self._heap[0][0]) if self._heap else None

    @property
    def wants_reading(self):
        """Whether none is in memory and there may be some in the store."""
        return not self._heap and self._known_to is not None

    def read(self):
        """Bring the next places into memory; may wait. Raises StoreError."""
        self._noted = []
        try:
            rows = self._store.records(PLACES, PLACES + self._known_to, NEAREST)
        finally:
            noted, self._noted = self._noted, None
        found = [_place(*row) for row in rows]
        self._known_to = found[-1].key if len(found) == NEAREST else None
        for key, size, _ in found:
            self._push(key, size)
        for key, size in noted:
            self.add(key, size)

    def _push(self, key, size):
        heap = self._heap
        heapq.heappush(heap, (key, size))
        if len(heap) > 2 * NEAREST:
            heap[:] = heapq.nsmallest(NEAREST, heap)
            self._known_to = heap[-1][0]
        return heap[0][0] == key


def _place(name, value):
    size, = _SIZE.unpack_from(value)
    return Place(name[len(PLACES):], size, str(value[_SIZE.size:], "utf-8"))


def _before(key):
    """Return the key just before *key*: there is none between the two. That of all zeros is nobody's."""
    return max(int.from_bytes(key, "big") - 1, 0).to_bytes(len(key), "big")
