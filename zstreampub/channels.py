"""Channels of the lane: one request and all that belongs to it.

A channel decides nothing about messages: what to send comes from a feed, where it
goes from the lane. Nothing here waits.
"""

from collections import deque
from random import random
from time import monotonic

import gevent

from . import wire
from .errors import SubscriberSilent

_RESERVE = 2                    # credits kept for the goodbye: the end item, then the error
_TURN_ITEMS = 64                # of one stream, then it is the others' turn
_TURN_S = 0.002
_UNDER_WAY_BYTES = 1 << 20      # that a batch-format client has not granted credit for yet, on one stream
_PEER_BYTES = 8 << 20           # the same, on all streams of one connection; beyond it each stream may have
_LEAST_BYTES = 1 << 19          # this much: a client need not grant before it has consumed half of it
_NIL = wire.pack(None)
_BEAT = wire.pack((0,))


class Peer:
    """One connection: its channels, and the frames that its full pipe has not taken yet.

    ``members`` are its channels whose client others wait for: members of consumers, and fetches.
    """

    __slots__ = ("id", "transport", "channels", "unsent", "unsent_bytes", "streams", "members", "under_way_bytes")

    def __init__(self, id, transport):
        self.id = id
        self.transport = transport
        self.channels = {}
        self.unsent = deque()
        self.unsent_bytes = 0
        self.streams = 0
        self.members = set()
        self.under_way_bytes = 0


class Channel:
    """Base: named by the *id* of the request that opened it.

    ``beats`` says whether the client must show signs of life; ``seen`` is when it last did.
    """

    __slots__ = ("lane", "peer", "id", "beats", "seen", "beat_at", "suspect")

    def __init__(self, lane, peer, id, beats=False):
        self.lane = lane
        self.peer = peer
        self.id = id
        self.beats = beats
        self.seen = monotonic()
        self.beat_at = self.seen + lane.beat_s
        self.suspect = False

    def grant(self, count):
        """Take *count* credits from the client."""

    def lost(self):
        """Learn that the client is gone; nothing can be sent any more."""

    def give_up(self, silence_s):
        """End it: the client has shown no sign of life for *silence_s*."""
        self.close()
        self.lost()

    def keep_alive(self, now):
        """Learn that it is time to look whether anything should be said."""

    def send(self, name, packed_args):
        """Send one event on this channel; return False if it has to wait in the peer's backlog."""
        return self.lane.send(self.peer, wire.answer(self.id, self.lane.new_id(), name, packed_args))

    def beat(self):
        """Send a heartbeat; if the client is gone, the lane learns of it."""
        self.send(wire.HEARTBEAT, _BEAT)

    def close(self):
        """Leave the lane's books. Closing again does nothing."""
        if self.peer.channels.get(self.id) is self:
            del self.peer.channels[self.id]
            self.lane.release(self.peer)

    def fail(self, error):
        """Answer with *error* and close."""
        self.send(wire.ERR, wire.error_args(type(error).__name__, str(error)))
        self.close()


class Call(Channel):
    """A call that waits for its answer."""

    __slots__ = ()

    def succeed(self, value):
        """Answer with what the call returns, and close."""
        self.send(wire.OK, wire.pack((value,)))
        self.close()

    def settled(self, count, error):
        """Answer with what became of an ack or its like (the consumers call this)."""
        if error is None:
            self.succeed(count)
        else:
            self.fail(error)


class PublishCall(Call):
    """A publish that waits for its answer."""

    __slots__ = ("result",)

    def __init__(self, lane, peer, id):
        super().__init__(lane, peer, id)
        self.result = None          # turns the finished append into what the call returns

    def answer(self, append):
        """Answer with what became of *append* (the broker calls this)."""
        if append.error is None:
            self.succeed(self.result(append))
        else:
            self.fail(append.error)


class Stream(Channel):
    """A subscription on its way to a client: sends what its feed has, as credit allows."""

    __slots__ = ("feed", "credit", "reserve", "queued", "spoke_at", "on_end", "_head", "_short", "_under_way",
                 "_under_way_bytes")

    def __init__(self, lane, peer, id):
        super().__init__(lane, peer, id, beats=True)
        self.feed = None            # set when the subscription is open
        self.credit = 1             # zerorpc: one item may be sent before the first grant
        self.reserve = 0
        self.queued = False
        self.spoke_at = self.seen
        self.beat_at -= random() * lane.beat_s / 2      # else thousands that came together would beat together for ever
        self.on_end = None
        self._head = wire.answer_head(id, lane.new_id(), wire.STREAM)
        self._short = False         # of credit, so that there may be something to send when some comes
        self._under_way = deque()
        self._under_way_bytes = 0
        peer.streams += 1

    def begin(self, feed):
        """Greet the client and start sending what *feed* has."""
        self.feed = feed
        if feed.is_members:
            self.peer.members.add(self)
        self._send_item(self._head, feed.greeting(self.lane.heartbeat_s))
        self.reserve = _RESERVE
        feed.subscription.on_ready = self.wake
        self.wake()

    def move(self, moved):
        """Answer that the client is to subscribe elsewhere, and close."""
        self.lane.send(self.peer, self._head, wire.pack({"control": "moved", **moved.facts}))
        self.fail(moved)

    def wake(self):
        """There may be something to send: get in line."""
        if not self.queued and self.feed is not None:
            self.queued = True
            self.lane.line_up(self)

    def grant(self, count):
        self.credit = min(self.credit + count, self.lane.max_credit)
        for _ in range(min(count, len(self._under_way))):
            self._count_under_way(-self._under_way.popleft())
        if self._short:
            self._short = False
            self.wake()

    def pump(self):
        """Send a turn's worth of items."""
        feed = self.feed
        subscription = feed.subscription
        if subscription.error is not None:
            self._say_goodbye()
            return
        ends = monotonic() + _TURN_S
        for _ in range(_TURN_ITEMS):
            if self.credit <= self.reserve or self.peer.unsent or (
                    self._under_way_bytes > _LEAST_BYTES and self._is_under_way_full()):
                self._short = True
                break
            item = feed.next_item(self._head)
            if item is None:
                break
            self._send_item(*item)
            if self.peer.channels.get(self.id) is not self:
                return      # the peer vanished in the middle
            if feed.is_dry:
                break
            if self.spoke_at > ends:    # compressing takes its time
                self.wake()
                break
        else:
            self.wake()
        if subscription.ended and not feed.pending:
            self._finish()

    def keep_alive(self, now):
        if self.feed is None or now - self.spoke_at < self.lane.keepalive_s or self.credit <= self.reserve:
            return
        item = None if self.peer.unsent else self.feed.keepalive()     # an item made has a number and must be sent
        if item is not None:
            self._send_item(self._head, item)

    def lost(self):
        self._close_subscription()

    def give_up(self, silence_s):
        # It may be alive, and only send no heartbeats: then it must hear why nothing comes any more.
        error = SubscriberSilent(f"No heartbeat came for {silence_s:.1f} s. Send one every {self.lane.heartbeat_s} s.")
        if self.feed is None:
            self.fail(error)
        else:
            self.feed.subscription.end(error)

    def close(self):
        if self.peer.channels.get(self.id) is self:
            self.peer.streams -= 1
            self.peer.members.discard(self)
            self.peer.under_way_bytes -= self._under_way_bytes
        super().close()

    def fail(self, error):
        super().fail(error)
        self._close_subscription()

    def _send_item(self, *parts):
        self.credit -= 1
        self.spoke_at = monotonic()
        if self.feed.counts_bytes:
            size = sum(map(len, parts))
            self._under_way.append(size)
            self._count_under_way(size)
        self.lane.send(self.peer, *parts)

    def _count_under_way(self, size):
        self._under_way_bytes += size
        self.peer.under_way_bytes += size

    def _is_under_way_full(self):
        return (self.peer.under_way_bytes > _PEER_BYTES
                or (self._under_way_bytes > _UNDER_WAY_BYTES and len(self._under_way) > 1))

    def _say_goodbye(self):
        """End by the subscription's error: at once, whatever the client reads."""
        error = self.feed.subscription.error
        if self.credit > 0:
            self._send_item(self._head, self.feed.end_item())
        self.send(wire.ERR, wire.error_args(type(error).__name__, self.feed.farewell()))
        self._leave()

    def _finish(self):
        """End because ``until`` is reached; that can wait until the client has read what is before it."""
        if self.credit > 0:
            self._send_item(self._head, self.feed.end_item())
            self.send(wire.STREAM_DONE, _NIL)
            self._leave()

    def _leave(self):
        self.close()
        self._close_subscription()

    def _close_subscription(self):
        if self.feed is not None:
            self.feed.subscription.on_ready = _nothing
            self.feed.subscription.close()
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            gevent.spawn(on_end)    # a user's hook: it may wait or fail, and we may be in the midst of a delivery


def _nothing():
    pass
