"""A subscription in the form in which a client gets it: packed stream items, made when asked for.

The server's lane and the stock service both drain a feed, so the greeting, the gaps,
the goodbye and the messages are the same on either way. Nothing here waits.
"""

import struct
from collections import deque

from .compression import ZSTD
from .errors import ZStreamPubError
from .store import Gap
from .wire import bin_head, pack

_FRAME_BYTES = 128 * 1024       # of batches in one item; a single larger batch goes alone
_FRAME_BATCHES = 256
_HEADERS_ONLY = pack("headers_only") + pack(True)
_ARRAY = struct.Struct(">cH")


class Feed:
    """Base of both forms. ``position`` is the offset to resume from: all below has been made into items.

    ``counts_bytes`` tells the lane that this client grants credit for what it consumed, so that
    bytes under way can be bounded; stock clients grant when half of 100 items are used.
    ``is_members`` tells it that others wait for what this client does not finish. ``is_dry``: the subscription
    had no more when the last item was made, so there is none before its ``on_ready`` is called.
    """

    counts_bytes = is_members = is_dry = False

    def __init__(self, broker, subscription):
        self.subscription = subscription
        self._broker = broker

    def greeting(self, heartbeat_s):
        """Return the first item."""
        subscription, settings = self.subscription, self._broker.settings
        return self._control({
            "control": "subscribed", "id": subscription.id, "epoch": self._broker.epoch,
            "offset": subscription.position, "heartbeat_s": heartbeat_s,
            "keepalive_s": settings.keepalive_s, "policy": subscription.policy.name,
            "max_messages": subscription.queue.max_messages, "max_bytes": subscription.queue.max_bytes,
            **self._agreed()})

    def _agreed(self):
        """Return what the greeting says besides."""
        return {}

    def next_item(self, head=b""):
        """Return *head* and the next item, a list of bytes; None if there is nothing to send now."""
        raise NotImplementedError

    def keepalive(self):
        """Return a keepalive item, or None while there is something better to send."""
        subscription = self.subscription
        if not subscription.is_idle or self.pending:
            return None
        return self._control({"control": "keepalive", "offset": subscription.position})

    def end_item(self):
        """Return the last item."""
        error = self.subscription.error
        return self._control({"control": "end", "why": type(error).__name__ if error else "until",
                              "resume": self.position, "message": str(error) if error else ""})

    def farewell(self):
        """Return what the error says with which the stream ends."""
        error = self.subscription.error
        return f"{error} Resume at offset {self.position}." if isinstance(error, ZStreamPubError) else str(error)

    @property
    def pending(self):
        """Whether a part of a batch is still in hand."""
        return False

    @property
    def position(self):
        return self.subscription.position

    @staticmethod
    def _is_control(item):
        return isinstance(item, Gap)

    def _tell(self, gap):
        return self._control({"control": "gap", **vars(gap)})

    def _control(self, fields):
        return pack(fields)


class MapFeed(Feed):
    """One message a map, one map an item: what any zerorpc client understands."""

    def __init__(self, broker, subscription, _=None):
        super().__init__(broker, subscription)
        self._items = deque()
        self._at = 0

    def next_item(self, head=b""):
        if not self._items:
            item = self.subscription.take()
            if item is None:
                return None
            if self._is_control(item):
                return [head, self._tell(item)]
            self._open(item)
        self._at += 1
        return [head, self._items.popleft()]

    def _open(self, batch):
        items = batch.map_items()
        if self.subscription.headers_only:      # a fixmap: nine fields at most, so there is room for one
            items = (b"".join((bytes((item[0] + 1,)), memoryview(item)[1:], _HEADERS_ONLY)) for item in items)
        self._items.extend(items)
        self._at = batch.first

    @property
    def pending(self):
        return bool(self._items)

    @property
    def position(self):
        return self._at if self._items else self.subscription.position


class BatchFeed(Feed):
    """Many batches an item, as they are stored; each item has a running number.

    With *zstd*, a Zstd, batches that shrink by it are sent so.
    """

    counts_bytes = True

    def __init__(self, broker, subscription, zstd=None):
        super().__init__(broker, subscription)
        self._zstd = zstd
        self._number = 0
        self._in_hand = None        # a control that has to wait until the batches before it are sent

    def next_item(self, head=b""):
        if self._in_hand is not None:
            control, self._in_hand = self._in_hand, None
            return [head, self._tell(control)]
        take = self.subscription.take
        parts, room, count = [], _FRAME_BYTES, 0
        self.is_dry = False
        while room > 0 and count < _FRAME_BATCHES:
            item = take()
            if item is None:
                self.is_dry = True
                break
            if self._is_control(item):
                if not count:
                    return [head, self._tell(item)]
                self._in_hand = item
                break
            count += self._add(parts, item)
            room -= item.size       # plain: the client unpacks an item as a whole
        if not count:
            return None
        return [head, _ARRAY.pack(b"\xdc", count + 1), pack(self._count()), *parts]

    def _add(self, parts, batch):
        """Put *batch* into *parts*; return how many elements of the item it is."""
        compressed = self._zstd and self._zstd.parts(batch)
        parts += compressed or (bin_head(len(batch.packed)), batch.packed)
        return 1

    def _agreed(self):
        return {"compression": ZSTD} if self._zstd else {}

    @property
    def pending(self):
        return self._in_hand is not None

    @property
    def position(self):
        return self._in_hand.first if self._in_hand is not None else self.subscription.position

    def _control(self, fields):
        return pack({**fields, "n": self._count()})

    def _count(self):
        number = self._number
        self._number += 1
        return number


FEEDS = {"map": MapFeed, "batch": BatchFeed}
