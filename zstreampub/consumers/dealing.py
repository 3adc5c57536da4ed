"""Dealing: how a consumer hands its messages out to the members that have room.

What comes new is taken from an ordinary subscription that begins at the cursor, so there is no seam between
history and live; what waits for its next delivery is read again when there is somebody to take it. A small
number of messages is shared evenly among those who wait. Runs on the hub; nothing here waits.
"""

import logging
from collections import deque

from ..errors import StoreCorrupt
from ..store import Gap
from ..subscription import Subscription
from .changes import HandedOut
from .handout import Handout
from .lease import IN_FLIGHT, WAITING, Lease
from .source import New
from .standing import Standing

logger = logging.getLogger(__name__)

_READER_MESSAGES = 10_000
_TURN_MESSAGES = 20_000     # handed out in one go
_LINGER_S = 5.0             # what was read and nobody had room for is kept for the next one


class Dealing(Standing):
    """A room of :class:`~zstreampub.consumers.consumer.Consumer`."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.again = deque()        # Sources that were read again
        self.takers = {}            # fetches that wait
        self.new_is_next = False    # what waits has had its turn, so what is new must not wait for more of it
        self._reader = None
        self._new = None            # the Source that came new
        self._line = {}             # members that have room, whose turn it is first

    # --- handing out -------------------------------------------------------------------------------

    def deal(self, now):
        """Hand out what there is to members that have room."""
        state = self.state
        if self.left:
            self.give_back(now)
        if self.unsaved:
            self._write_again()
        if self.paused is not None or self.frozen or not self.prepared or not self._line:
            self.new_is_next = False
            self._tell_takers()
            return
        if self._reader is None:
            self._start_reading()
        self._reader.queue.max_bytes = self.home.reader_bytes
        if not self.new_is_next:
            self._reread()
        self._share_out(now)
        if self._new is not None and not self._new.left:
            self._new = None            # or each consumer whose members have all they may have would keep a batch
        self.new_is_next = False
        reader = self._reader
        if reader is not None and reader.ended:
            self._end_all(reader.error)
        elif reader is not None and reader.live and not reader.queue and self._new is None:
            state.cursor = max(state.cursor, reader.position)
        if self.has_leftovers and not self._line:
            self.linger(now)
        if state.cursor > state.sent:
            self.home.moved(self)       # also over what nobody is given, so that nothing else tells of it
        self._reread()
        busy = self.rereading.busy or (self._new is not None and self._new.is_held)
        if self.takers and not busy and (reader is None or (reader.live and not reader.queue)
                                         or state.live >= self.options.max_pending):
            self._tell_takers()

    def _share_out(self, now):
        """Give those in the line what there is, until the turn is over."""
        leases, budget, turns = {}, _TURN_MESSAGES, 0
        while self._line and budget > 0:
            source = self._source()
            if source is None:
                break
            turns = turns or len(self._line)
            share = -(-self._available() // turns)
            budget -= self._serve(next(iter(self._line)), share, leases, now)
            turns -= 1
        if budget <= 0:
            self.home.touch(self)

    def _reread(self):
        """Have read again what is ready: it goes out before anything new."""
        while self.again and not self.again[0].left:
            self.again.popleft()
        if self.state.has_ready and self._line and not self.again and self.retry_at is None:
            self.rereading.start()

    def _tell_takers(self):
        """Tell the fetches that wait that nothing is there for them now."""
        if self.takers:
            for taker in tuple(self.takers):
                taker.nothing()

    def _serve(self, member, share, leases, now):
        """Give *member* its *share*; return how many messages it got."""
        given = 0
        while given < share and member.room > 0:
            source = self._source()
            found = source.cut(min(share - given, member.room), member.room_bytes) if source is not None else None
            if found is None:
                if source is None:
                    break
                continue
            piece, delivery = found
            self._hand_out(member, piece, delivery, leases, now)
            given += piece.count
        self._line.pop(member, None)
        member.served()
        if member.room > 0:
            self._line[member] = None       # behind the others
        return max(given, 1)

    def _hand_out(self, member, piece, delivery, leases, now):
        handed = leases.get((member, delivery))
        if handed is None:
            deadline = now + self.options.ack_wait_s
            lease = Lease(IN_FLIGHT, self.home.new_token(), delivery + 1, deadline, member)
            handed = leases[member, delivery] = HandedOut(self, lease)
            self.ops.append(handed)
        lease, state = handed.lease, self.state
        fresh = piece.first not in state.pending
        (state.add if fresh else state.put)(lease, piece.first, piece.next)
        if lease.left == piece.count:
            self.arm(lease)
        if delivery:
            state.redelivered += piece.count
        member.promise(piece)
        handed.items.append(Handout(piece, lease, self.options.ack_wait_s, self))

    def hand_out_one(self, taker, batch):
        """Hand out the one message of *batch* to *taker*, if it waits or was not handed out yet.

        Of a key_ordered consumer, one with a key only where it is that key's turn for certain.
        """
        state, offset = self.state, batch.first
        if self.paused is not None or self.frozen or not self.is_active(taker):
            return
        lease = state.pending.get(offset)
        if lease is None:
            if (offset < state.cursor or offset in state.ahead
                    or max(state.live, len(state.ahead)) >= self.options.max_pending):
                return
            key = (batch.metadata.get("key") or (None,))[0]
            if self.keys is not None and key is not None:
                if self.keys.is_busy(key) or offset > state.cursor:
                    return      # what is between may have an earlier message of its key
                self.keys.out(offset, key)
        elif lease.kind != WAITING or (self.keys is not None and not self.keys.is_first(offset)):
            return
        if offset in self.instead:
            batch = batch.assemble(batch.topic, [self.instead[offset]], batch.metadata, offset, batch.time_us)
        self._hand_out(taker, batch, lease.delivery if lease is not None else 0, {}, self.home.clock.now())

    def _available(self):
        new = self._new.left if self._new is not None else 0
        waiting = self._reader.queue.messages if self._reader is not None else 0
        return max(1, sum(source.left for source in self.again) + new + waiting)

    def _source(self):
        """Return the Source whose turn it is, None if there is nothing to hand out."""
        while self.again:
            if self.again[0].left:
                return self.again[0]
            self.again.popleft()
        if self.state.live >= self.options.max_pending or (self.rereading.busy and not self.new_is_next):
            return None
        while self._new is None or not self._new.left:
            item = self._reader.take() if self._reader is not None else None
            if item is None:
                self._new = None
                return None
            if isinstance(item, Gap):
                self.tell_gap(item)
                continue
            try:
                self._new = New(self, item)
            except StoreCorrupt:        # it cannot even be opened, and the others are to go on
                self.tell_gap(Gap(item.first, item.next, item.count, "damaged"))
        return None if self._new.is_held else self._new

    # --- the reader ------------------------------------------------------------------------------------

    def _start_reading(self):
        self._reader = Subscription(self.home.broker, self.name, self.wanted, self.home.spill(), _READER_MESSAGES,
                                    self.home.reader_bytes, cursor=self.state.cursor, trims=self.state.trims,
                                    name=self.name)
        self._reader.on_ready = self._wake
        self._reader.skips_expired = False
        self.home.readers += 1
        self.home.broker.add_reader(self._reader)

    def _wake(self):
        self.home.touch(self)

    def linger(self, now):
        """Stop reading after a while, unless there is somebody with room by then."""
        self.linger_until = now + _LINGER_S
        self.home.watch_time(self, self.linger_until)

    def stop_reading(self):
        """Let go of everything that was read and not handed out."""
        reader, self._reader, self._new = self._reader, None, None
        if reader is not None:
            self.home.readers -= 1
            self.state.trims = max(self.state.trims, reader.trims)
            reader.on_ready = _nothing
            reader.end()
        for source in self.again:
            self.state.ready_again(*source.rest())
        self.again.clear()

    def _end_all(self, error):
        self.stop_reading()
        for taker in tuple(self.takers):
            taker.cancel(error)
        for member in tuple(self.members):
            member.end(type(error)(str(error), **error.facts))

    @property
    def has_leftovers(self):
        """Whether something was read and not handed out."""
        return bool(self._new is not None or self.again or (self._reader is not None and self._reader.queue))

    @property
    def has_takers(self):
        return self._reader is not None

    def hold_reading(self, error):
        """Learn that what waits could not be read; it is tried again later."""
        logger.warning("consumer %s: what waits for its next delivery cannot be read: %s", self.name, error)


def _nothing():
    pass
