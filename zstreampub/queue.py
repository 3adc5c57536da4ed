"""The bounded queue of one subscription: batches and gaps, in offset order.

Bounded by messages and by bytes. Nothing here waits and nothing is lost without
a :class:`~zstreampub.store.Gap` in its place. One message always fits into an empty
queue, however large it is.
"""

from collections import OrderedDict, deque

from .store import Gap


class BoundedQueue:
    """First in, first out. ``messages`` and ``bytes`` say how much is in it."""

    __slots__ = ("max_messages", "max_bytes", "messages", "bytes", "_items", "_kept")

    def __init__(self, max_messages, max_bytes):
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0
        self._items = deque()
        self._kept = None       # while conflating: the newest messages, behind all of _items

    def __bool__(self):
        return bool(self._items or self._kept)

    def is_low(self, bytes_ahead):
        """Whether it is at most half full, and of at most half of *bytes_ahead*: the time to read more from the log."""
        return self.messages * 2 <= self.max_messages and self.bytes * 2 <= min(self.max_bytes, bytes_ahead)

    @property
    def first(self):
        """The offset of the first thing in the queue, None if it is empty."""
        if self._items:
            return self._items[0].first
        return self._kept.told if self._kept else None

    def room_for(self, batch):
        """Return how many messages of *batch*, from its start, can be put now.

        0 while it conflates: which messages stay is then the policy's business.
        """
        if self._kept:
            return 0
        count = batch.count_within(self.max_bytes - self.bytes, max(self.max_messages - self.messages, 0))
        return max(count, 0 if self.messages else 1)

    def put_if_room(self, batch):
        """Add *batch* at the end if all of it fits; return whether it did."""
        messages, size = self.messages + batch.count, self.bytes + len(batch.packed)
        if messages > self.max_messages or size > self.max_bytes or self._kept is not None:
            return False
        self._items.append(batch)
        self.messages, self.bytes = messages, size
        return True

    def put(self, batch):
        """Add *batch* at the end, whether it fits or not."""
        self._stop_conflating()
        self._items.append(batch)
        self.messages += batch.count
        self.bytes += batch.size

    def put_gap(self, gap):
        """Add *gap* at the end; neighbours of one reason become one."""
        self._stop_conflating()
        items = self._items
        if items and isinstance(items[-1], Gap) and items[-1].why == gap.why:
            gap = gap.joined(items.pop())
        items.append(gap)

    def get(self):
        """Take the first thing, a batch or a gap; None if the queue is empty."""
        if self._items:
            item = self._items.popleft()
        elif self._kept:
            item = self._kept.get()
        else:
            self._kept = None
            return None
        if not isinstance(item, Gap):
            self.messages -= item.count
            self.bytes -= len(item.packed)      # at each delivery: a property would cost more
        return item

    def clear(self):
        """Empty it."""
        self._items.clear()
        self._kept = None
        self.messages = self.bytes = 0

    # --- making room ---------------------------------------------------------------

    def drop_oldest(self, why):
        """Remove from the front what is over the bounds; leave a gap there. Returns how many went."""
        gone, gap = 0, None
        while self.messages > 1 and (self.messages > self.max_messages or self.bytes > self.max_bytes):
            item = self.get()
            if isinstance(item, Gap):
                gap = Gap(item.first, item.next, item.count, why).joined(gap)
                continue
            over = item.count - self._room_for_end_of(item)
            gap = Gap(item.first, item.first + over, over, why).joined(gap)
            gone += over
            if over < item.count:
                self._put_back(item.slice(over, item.count))
        if gap is not None:
            self._put_gap_in_front(gap)
        return gone

    def conflate(self, batch, why):
        """Add *batch* and keep only the newest message per topic and key. Returns how many went.

        What is queued before a gap stays as it is.
        """
        before = self.messages + batch.count
        if not self._kept:
            self._start_conflating(batch, why)
        self._keep(batch)
        return before - self.messages

    def _room_for_end_of(self, batch):
        """Return how many messages at the end of *batch*, which was just taken, may stay: not all."""
        most = max(min(batch.count - 1, self.max_messages - self.messages), 0)
        count = batch.count_within(self.max_bytes - self.bytes, most, at_end=True)
        return max(count, 0 if self.messages else 1)

    def _start_conflating(self, batch, why):
        batches = []
        while self._items and not isinstance(self._items[-1], Gap):
            batches.append(self._items.pop())
        self._kept = _Kept(batches[-1].first if batches else batch.first, why)
        for one in reversed(batches):
            self.messages -= one.count
            self.bytes -= one.size
            self._keep(one)

    def _keep(self, batch):
        added, gone = self._kept.put(batch)
        self.messages += len(added) - len(gone)
        self.bytes += sum(one.size for one in added) - sum(one.size for one in gone)

    def _stop_conflating(self):
        if self._kept:
            self._items.extend(iter(self._kept.get, None))
        self._kept = None

    def _put_back(self, batch):
        self._items.appendleft(batch)
        self.messages += batch.count
        self.bytes += batch.size

    def _put_gap_in_front(self, gap):
        items = self._items
        if items and isinstance(items[0], Gap) and items[0].why == gap.why:
            gap = gap.joined(items.popleft())
        items.appendleft(gap)


class _Kept:
    """The newest message of each topic and key, with a gap in every place where others went.

    Messages are numbered as they come; a number left out is a message that went. ``told`` is the
    offset of the first thing: everything below it was taken.
    """

    def __init__(self, told, why):
        self.told = told
        self._why = why
        self._numbered = 0
        self._taken = 0         # messages below this number were taken or told
        self._newest = OrderedDict()    # (topic, key) -> (number, batch of one)

    def __bool__(self):
        return bool(self._newest)

    def put(self, batch):
        """Add *batch*; return ``(added, gone)``: the messages of it that stay, and the older ones that went."""
        keys = batch.metadata.get("key") or (None,) * batch.count
        newest = {key: at for at, key in enumerate(keys)}
        last = sorted(newest.items(), key=lambda pair: pair[1])
        added, gone = batch.singles([at for _, at in last]), []
        for (key, at), one in zip(last, added):
            old = self._newest.pop((batch.topic, key), None)
            if old is not None:
                gone.append(old[1])
            self._newest[batch.topic, key] = self._numbered + at, one
        self._numbered += batch.count
        return added, gone

    def get(self):
        """Take the first thing: a message, or a gap for those that went before it; None if there is none."""
        if not self._newest:
            return None
        key = next(iter(self._newest))
        number, one = self._newest[key]
        if number > self._taken:
            gap = Gap(self.told, one.first, number - self._taken, self._why)
            self._taken, self.told = number, one.first
            return gap
        del self._newest[key]
        self._taken, self.told = number + 1, one.next
        return one
