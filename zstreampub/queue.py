"""The bounded queue of one subscription: batches and gaps, in offset order.

Bounded by messages and by bytes. Nothing here waits and nothing is lost without
a :class:`~zstreampub.store.Gap` in its place. One message always fits into an empty
queue, however large it is.
"""

from collections import OrderedDict, deque

from .store import Gap


class BoundedQueue:
    """First in, first out. ``messages`` and ``bytes`` say how much is in it."""

    __slots__ = ("max_messages", "max_bytes", "messages", "bytes", "_items", "_newest")

    def __init__(self, max_messages, max_bytes):
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0
        self._items = deque()
        self._newest = None     # while conflating: (topic, key) -> batch of one, behind all of _items

    def __bool__(self):
        return bool(self._items or self._newest)

    @property
    def has_room(self):
        """Whether it is at most half full: the time to read more from the log."""
        return self.messages * 2 <= self.max_messages and self.bytes * 2 <= self.max_bytes

    @property
    def first(self):
        """The offset of the first thing in the queue, None if it is empty."""
        if self._items:
            return self._items[0].first
        if self._newest:
            return next(iter(self._newest.values())).first
        return None

    def room_for(self, batch):
        """Return how many messages of *batch*, from its start, can be put now."""
        if self.messages + batch.count <= self.max_messages and self.bytes + batch.size <= self.max_bytes:
            return batch.count
        count = min(batch.count, self.max_messages - self.messages)
        room = self.max_bytes - self.bytes
        while count > 0 and batch.slice(0, count).size > room:
            count //= 2
        return count if self.messages else max(count, 1)

    def put(self, batch):
        """Add *batch* at the end."""
        if self._newest is not None:
            self._put_newest(batch)
        else:
            self._items.append(batch)
            self.messages += batch.count
            self.bytes += batch.size

    def put_gap(self, gap):
        """Add *gap* at the end; neighbours of one reason become one."""
        if self._newest:
            gap = self._stop_conflating(gap)
        items = self._items
        if items and isinstance(items[-1], Gap) and items[-1].why == gap.why:
            gap = gap.joined(items.pop())
        items.append(gap)

    def get(self):
        """Take the first thing, a batch or a gap; None if the queue is empty."""
        if self._items:
            item = self._items.popleft()
        elif self._newest:
            _, item = self._newest.popitem(last=False)
        else:
            return None
        if not isinstance(item, Gap):
            self.messages -= item.count
            self.bytes -= item.size
        if not self._newest and not self._items:
            self._newest = None
        return item

    def clear(self):
        """Empty it."""
        self._items.clear()
        self._newest = None
        self.messages = self.bytes = 0

    # --- making room ---------------------------------------------------------------

    def drop_oldest(self, why):
        """Remove from the front what is over the bounds; leave a gap there. Returns how many went."""
        gap, count = None, 0
        while self.messages > 1 and (self.messages > self.max_messages or self.bytes > self.max_bytes):
            item = self.get()
            if isinstance(item, Gap):
                gap = Gap(item.first, item.next, item.count, why).joined(gap)
                continue
            over = self.messages + item.count - self.max_messages
            if self.bytes > self.max_bytes or over >= item.count:
                over = item.count if self.messages else (item.count + 1) // 2
            count += over
            gap = Gap(item.first, item.first + over, over, why).joined(gap)
            if over < item.count:
                self._put_back(item.slice(over, item.count))
        if gap is not None:
            self._put_gap_in_front(gap)
        return count

    def conflate(self, batch, why):
        """Add *batch* and keep only the newest message per topic and key. Returns how many went.

        The gap that tells them ends where the messages that were kept begin.
        """
        start = batch.first if self.first is None else self.first
        before = self.messages + batch.count
        told = self._start_conflating()
        self._put_newest(batch)
        gone = before - self.messages
        if gone or told:
            kept = next(iter(self._newest.values())).first
            gap = Gap(start, kept, gone, why).joined(told)
            if self._items and self._items[-1].why == why:
                gap = gap.joined(self._items.pop())
            self._items.append(gap)
        return gone

    def _start_conflating(self):
        """Go over to one message per topic and key; return the gaps that were queued, as one."""
        if self._newest is not None:
            return None
        items, self._items, self._newest = self._items, deque(), OrderedDict()
        self.messages = self.bytes = 0
        told = None
        for item in items:
            if isinstance(item, Gap):
                told = item.joined(told)
            else:
                self._put_newest(item)
        return told

    def _put_newest(self, batch):
        keys = batch.metadata.get("key") or (None,) * batch.count
        last = {key: at for at, key in enumerate(keys)}
        for key, at in sorted(last.items(), key=lambda pair: pair[1]):
            one = batch.slice(at, at + 1)
            old = self._newest.pop((batch.topic, key), None)
            if old is not None:
                self.messages -= 1
                self.bytes -= old.size
            self._newest[batch.topic, key] = one
            self.messages += 1
            self.bytes += one.size

    def _stop_conflating(self, gap):
        self._items.extend(self._newest.values())
        self._newest = None
        return gap

    def _put_back(self, batch):
        if self._newest is not None:
            keys = batch.metadata.get("key") or (None,)
            self._newest[batch.topic, keys[0]] = batch
            self._newest.move_to_end((batch.topic, keys[0]), last=False)
        else:
            self._items.appendleft(batch)
        self.messages += batch.count
        self.bytes += batch.size

    def _put_gap_in_front(self, gap):
        items = self._items
        if items and isinstance(items[0], Gap) and items[0].why == gap.why:
            gap = gap.joined(items.popleft())
        items.appendleft(gap)
