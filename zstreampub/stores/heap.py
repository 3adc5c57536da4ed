"""Heap: the batches of a MemoryStore, and where to find them."""

from bisect import bisect_left, bisect_right

from .keys import newest_of_keys


class Heap:
    """Batches in the order of their offsets; ``bytes`` is the size of all."""

    def __init__(self):
        self.firsts = []        # sorted
        self.bytes = 0
        self._batches = {}      # first offset -> Batch
        self._by_topic = {}     # Topic -> firsts, sorted
        self._keys = {}         # digest of topic and key -> offset of the newest

    def __getitem__(self, first):
        return self._batches[first]

    def add(self, topic, batch):
        """Add a batch at the end."""
        self.firsts.append(batch.first)
        self._by_topic.setdefault(topic, []).append(batch.first)
        self._keys.update(newest_of_keys(batch, topic.id))
        self._put(batch)

    def at(self, offset):
        """Return where among ``firsts`` the batch of *offset* is, or the next one after it."""
        at = bisect_left(self.firsts, offset)
        if at and self._batches[self.firsts[at - 1]].next > offset:
            at -= 1
        return at

    def get(self, offset):
        """Return the one message at *offset* as a batch of one, or None."""
        at = self.at(offset)
        if at == len(self.firsts) or self.firsts[at] > offset:
            return None
        batch = self._batches[self.firsts[at]]
        return batch.slice(offset - batch.first, offset - batch.first + 1)

    def batches_of(self, topic):
        return [self._batches[first] for first in self._by_topic.get(topic, ())]


    def newest_below(self, topic, next):
        """Return the offset of the newest message of *topic* below *next*, or None."""
        firsts = self._by_topic.get(topic, ())
        at = bisect_left(firsts, next)
        return min(self._batches[firsts[at - 1]].next, next) - 1 if at else None

    def offset_of_key(self, digest):
        return self._keys.get(digest)

    def replace(self, changes):
        """Put batches in the place of others; *changes*: topic -> {first offset: what comes instead, a list}."""
        everything = {}
        for topic, instead in changes.items():
            everything.update(instead)
            self._by_topic[topic] = _replaced(self._by_topic[topic], instead)
            for first, remains in instead.items():
                self._replace(topic, self._batches.pop(first), remains)
        self.firsts = _replaced(self.firsts, everything)

    def _replace(self, topic, batch, remains):
        self.bytes -= batch.size
        lost = [digest for digest in newest_of_keys(batch, topic.id)
                if batch.first <= self._keys.get(digest, -1) < batch.next]
        for digest in lost:
            del self._keys[digest]
        for piece in remains:
            self._put(piece)
            newest = newest_of_keys(piece, topic.id) if lost else {}
            self._keys.update((digest, newest[digest]) for digest in lost if digest in newest)

    def _put(self, batch):
        self._batches[batch.first] = batch
        self.bytes += batch.size


def _replaced(firsts, changes):
    """Return *firsts* with other ones in the place of those in *changes*."""
    low, high = bisect_left(firsts, min(changes)), bisect_right(firsts, max(changes))
    middle = []
    for first in firsts[low:high]:
        middle += [piece.first for piece in changes[first]] if first in changes else [first]
    firsts[low:high] = middle
    return firsts
