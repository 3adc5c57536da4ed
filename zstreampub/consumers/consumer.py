"""Consumer: a named, durable cursor; shares what it reads among its members.

What comes new is taken from an ordinary subscription that begins at the cursor, so there is
no seam between history and live; what waits for its next delivery is read again when there
is somebody to take it. Runs on the hub; nothing here waits.
"""

import logging
import random
from collections import deque

from ..store import Gap
from ..subscription import Subscription
from .changes import Added, Gone, HandedOut
from .keys import KeyOrder
from .lease import DYING, IN_FLIGHT, PARKED, SETTLING, WAITING, Lease, runs_of
from .member import Handout
from .source import New, dying, parked

logger = logging.getLogger(__name__)

_READER_BYTES = 1 << 20
_READER_MESSAGES = 10_000
_TURN_MESSAGES = 20_000     # handed out in one go
_TURN_LEASES = 2_000        # that end in one go
_LINGER_S = 5.0             # what was read for a fetch is kept for the next one
_MOST_GAPS = 16             # told to whoever comes next


class Consumer:
    """``state`` is what is pending, ``members`` share it; *home* is the Consumers that it belongs to.

    ``paused``: why, or None. ``instead``: offset -> packed payload that this consumer is given.
    ``ops`` are the changes that are not on their way to the disk yet, ``unsaved`` the leases that
    must be written again as a commit has failed.
    """

    def __init__(self, home, name, wanted, options, state, created_us):
        self.home = home
        self.name = name
        self.wanted = wanted
        self.options = options
        self.state = state
        self.created_us = created_us
        self.paused = None
        self.members = []
        self.instead = {}
        self.keys = KeyOrder() if options.mode == "key_ordered" else None
        self.again = deque()        # Sources that were read again
        self.gaps = []
        self.ops = []
        self.unsaved = []
        self.flushes = 0
        self.dirty = False
        self.frozen = self.deleted = self.prepared = False
        self.dead = self.undertaker = self.rereading = None     # set by home.add
        self.retry_at = self.bury_at = self.linger_until = None
        self.takers = 0             # fetches that wait
        self.used_at = home.clock.now()
        self.alarm_at = None
        self._reader = None
        self._new = None
        self._line = {}             # members that have room, whose turn it is first
        self._quiet = []

    def __repr__(self):
        return f"<Consumer {self.name} {self.state.cursor}>"

    # --- members ---------------------------------------------------------------------------------

    def join(self, member):
        """Take *member* in."""
        self.members.append(member)
        for gap in self.gaps:
            member.tell(gap)
        self.gaps.clear()
        self.line_up(member)
        self.home.touch(self)

    def leave(self, member):
        """Take what *member* has back, for others."""
        if member not in self.members:
            return
        self.members.remove(member)
        self._line.pop(member, None)
        self.used_at = now = self.home.clock.now()
        if not self.home.draining:      # the end of the server is not that of its members: they come back
            for lease in tuple(member.leases):
                self.lapse(lease, now)
                self.ops.append(Added(self, lease, lease.now(self.state.pending)))      # what is settled stays so
        for other in self.members:
            self.line_up(other)     # an exclusive one has waited for this
        if not self.members:
            self.stop_reading()
        self.home.left(self, member)
        self.home.touch(self)

    def give_up(self, taker):
        """Take a fetch that is over out of the line; what was read is kept a while for the next."""
        self._line.pop(taker, None)
        self.used_at = now = self.home.clock.now()
        self.linger_until = now + _LINGER_S
        self.home.watch_time(self, self.linger_until)

    def is_active(self, member):
        return self.options.mode != "exclusive" or not self.members or self.members[0] is member

    def line_up(self, member):
        """Put *member* in the line if it may get something."""
        if member not in self._line and member.room > 0 and self.is_active(member) and not member.ended:
            self._line[member] = None
            self.home.touch(self)

    def tell(self, what):
        """Tell all members a Notice."""
        for member in tuple(self.members):
            member.tell(what)

    def tell_gap(self, gap):
        """Tell a member that messages are gone; if there is none, whoever joins next."""
        for member in self.members:
            if self.is_active(member):
                member.tell(gap)
                return
        if self.gaps and self.gaps[-1].why == gap.why and self.gaps[-1].next == gap.first:
            gap = self.gaps.pop().joined(gap)
        self.gaps.append(gap)
        if len(self.gaps) > _MOST_GAPS:
            first, second, *rest = self.gaps
            self.gaps = [first.joined(second), *rest]
        self.dirty = True

    def log_gap(self, gap):
        logger.warning("consumer %s: messages in [%d, %d) are gone: %s", self.name, gap.first, gap.next, gap.why)

    # --- handing out -------------------------------------------------------------------------------

    def deal(self, now):
        """Hand out what there is to members that have room."""
        state = self.state
        if self.unsaved:
            self._write_again()
        if self.paused is not None or self.frozen or not self.prepared or not self._line:
            self._tell_takers()
            return
        if self._reader is None:
            self._start_reading()
        leases, budget = {}, _TURN_MESSAGES
        while self._line and budget > 0:
            source = self._source()
            if source is None:
                break
            budget -= self._serve(next(iter(self._line)), leases, now)
        if budget <= 0:
            self.home.touch(self)
        reader = self._reader
        if reader is not None and reader.ended:
            self._end_all(reader.error)
        elif reader is not None and reader.live and not reader.queue and not (self._new and self._new.left):
            state.cursor = max(state.cursor, reader.position)
        if state.has_ready and self._line and not self.again and self.retry_at is None:
            self.home.reread(self)
        if self.takers and not self.rereading.busy and (reader is None or (reader.live and not reader.queue)
                                                        or state.live >= self.options.max_pending):
            self._tell_takers()

    def _tell_takers(self):
        """Tell the fetches that wait that nothing is there for them now."""
        if self.takers:
            for taker in tuple(self._line):
                taker.nothing()

    def _serve(self, member, leases, now):
        """Give *member* its share; return how many messages it got."""
        given = 0
        share = min(member.room, -(-self._available() // len(self._line)))
        while given < share and member.room > 0:
            source = self._source()
            found = source.cut(share - given, member.room_bytes) if source is not None else None
            if found is None:
                if source is None:
                    break
                continue
            self._hand_out(member, *found, leases, now)
            given += found[0].count
        self._line.pop(member, None)
        member.served()
        self.line_up(member)
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
        """Hand out the one message of *batch* to *taker*, if it waits or was not handed out yet."""
        state, offset = self.state, batch.first
        if self.paused is not None or self.frozen:
            return
        lease = state.pending.get(offset)
        if lease is None:
            if offset < state.cursor or offset in state.ahead:
                return
            key = (batch.metadata.get("key") or (None,))[0]
            if self.keys is not None:
                if self.keys.is_busy(key):
                    return
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
        if self.state.live >= self.options.max_pending:
            return None
        while self._new is None or not self._new.left:
            item = self._reader.take() if self._reader is not None else None
            if item is None:
                self._new = None
                return None
            if isinstance(item, Gap):
                self.tell_gap(item)
                continue
            self._new = New(self, item)
        return self._new

    # --- what does not go out --------------------------------------------------------------------

    def park(self, offset, key):
        """Let *offset* wait for an earlier message of its key."""
        self._pend(parked(), offset)
        self.keys.park(offset, key)

    def expired_new(self, offset, key):
        """Pass over *offset*, which has expired before it was handed out."""
        if self.options.expired == "skip":
            self.tell_gap(Gap(offset, offset + 1, 1, "expired"))
            return
        lease = dying()
        self._pend(lease, offset)
        if self.keys is not None and key is not None:
            if self.keys.is_busy(key):
                self.keys.park(offset, key)
            else:
                self.keys.out(offset, key)
        self.home.bury(self, lease, "expired", "")

    def expired(self, offset):
        """Settle *offset*, which has expired while it waited."""
        if self.options.expired == "skip":
            self.drop([offset, offset + 1], "expired")
        else:
            lease = Lease(DYING, self.state.pending[offset].token, self.state.pending[offset].delivery)
            self.state.put(lease, offset, offset + 1)
            self.home.bury(self, lease, "expired", "")

    def drop(self, runs, why):
        """Settle *runs*, all pending, which nobody gets any more; tell a member."""
        lease = Lease(SETTLING)
        lease.back = Lease(WAITING)     # what a snapshot says of it meanwhile
        for first, next in zip(runs[::2], runs[1::2]):
            self.state.put(lease, first, next)
            self.tell_gap(Gap(first, next, next - first, why))
        self.ops.append(Gone(self, lease))
        self.home.touch(self)

    def _pend(self, lease, offset):
        self.state.add(lease, offset, offset + 1)
        last = self.ops[-1] if self.ops else None
        if lease.kind == PARKED and type(last) is Added and last.lease.kind == PARKED:
            self.state.put(last.lease, offset, offset + 1)      # one lease for many
        else:
            self.ops.append(Added(self, lease))

    def _write_again(self):
        """Write what a failed commit has left out."""
        leases, self.unsaved = dict.fromkeys(self.unsaved), []
        for lease in leases:
            runs = lease.now(self.state.pending)
            if runs:
                self.ops.append(Added(self, lease, runs))

    # --- leases that end -----------------------------------------------------------------------------

    def lapse(self, lease, now, delay_s=0.0):
        """End *lease*, which is in flight: what is under it is delivered again, or is a dead letter."""
        most = self.options.max_deliveries
        if not lease.taken:
            lease.delivery -= 1     # nobody has seen it
        elif most and lease.delivery >= most:
            self.home.bury(self, lease, "max_deliveries", lease.error)
            return
        self.state.turn(lease, WAITING, now + delay_s)
        if delay_s <= 0:
            self.state.make_ready(lease)
        else:
            self.arm(lease)
        self.dirty = True
        self.home.touch(self)

    def arm(self, lease):
        self.state.arm(lease)
        self.home.watch_time(self, lease.due)

    def look_at_time(self, now):
        """Do what is due; return when to look again, None: when something happens."""
        state = self.state
        over = state.due(now, _TURN_LEASES)
        for lease in over:
            self.lapse(lease, now, self.delay_s(lease.delivery) if lease.taken else 0.0)
        if self.retry_at is not None and self.retry_at <= now:
            self.retry_at = None
        if self.bury_at is not None and self.bury_at <= now:
            self.bury_at = None
            self.undertaker.go_on()
        if over or state.has_ready or self.unsaved:
            self.home.touch(self)
        if self.linger_until is not None and self.linger_until <= now:
            self.linger_until = None
            if not self.members and not self.takers:
                self.stop_reading()
        times = [state.next_due, self.retry_at, self.bury_at, self.linger_until, self.inactive_at]
        return min((time for time in times if time is not None), default=None)

    def is_waiting(self, lease):
        """Whether what is under *lease* may still be given another payload: nobody has it."""
        return lease.kind in (WAITING, PARKED)

    def delay_s(self, delivery):
        return self.options.delay_s(delivery, random.random())

    @property
    def inactive_at(self):
        """When it is to be deleted, if nothing happens until then; None if never."""
        if self.options.inactive_s is None or self.members or self.takers:
            return None
        return self.used_at + self.options.inactive_s

    def settled(self, runs):
        """Learn that *runs* left the pending set, on disk."""
        if self.instead:
            self.home.forget_instead(self, runs)
        if self.keys is None:
            return
        for first, next in zip(runs[::2], runs[1::2]):
            for offset in range(first, next):
                turn = self.keys.release(offset)
                if turn is not None:
                    self.release(turn)

    def release(self, offset):
        """Let *offset* go out: nothing of its key is before it any more."""
        lease = self.state.pending.get(offset)
        if lease is not None and lease.kind == PARKED:
            waiting = Lease(WAITING, lease.token, lease.delivery)
            self.state.put(waiting, offset, offset + 1)
            self.state.make_ready(waiting)
            self.home.touch(self)

    def removed(self, first, next):
        """Learn that the store has no messages of this consumer in ``[first, next)`` any more."""
        pending = self.state.pending
        if next - first <= len(pending):
            offsets = [offset for offset in range(first, next) if offset in pending]
        else:
            offsets = sorted(offset for offset in pending if first <= offset < next)
        runs = runs_of(offset for offset in offsets if pending[offset].kind != SETTLING)
        if runs:
            self.drop(runs, "retention")

    # --- the reader ------------------------------------------------------------------------------------

    def _start_reading(self):
        self._reader = Subscription(self.home.broker, self.name, self.wanted, self.home.spill(), _READER_MESSAGES,
                                    _READER_BYTES, cursor=self.state.cursor, trims=self.state.trims, name=self.name)
        self._reader.on_ready = self._wake
        self.home.broker.add_reader(self._reader)

    def _wake(self):
        self.home.touch(self)

    def stop_reading(self):
        """Let go of everything that was read and not handed out."""
        reader, self._reader, self._new = self._reader, None, None
        if reader is not None:
            self.state.trims = max(self.state.trims, reader.trims)
            reader.on_ready = _nothing
            reader.end()
        for source in self.again:
            self.state.ready_again(*source.rest())
        self.again.clear()

    def _end_all(self, error):
        self.stop_reading()
        for member in tuple(self.members):
            member.end(type(error)(str(error), **error.facts))

    @property
    def has_takers(self):
        return self._reader is not None

    def hold_reading(self, error):
        """Learn that what waits could not be read; it is tried again later."""
        logger.warning("consumer %s: what waits for its next delivery cannot be read: %s", self.name, error)

    def begin_anew(self, state):
        """Go on with *state*; what its members have is not theirs any more."""
        self.stop_reading()
        for member in self.members:
            member.drop()
        self.state = state
        self.keys = KeyOrder() if self.keys is not None else None
        self.prepared = True
        self.again.clear()
        self.instead.clear()
        self.unsaved.clear()
        self.gaps.clear()
        for member in self.members:
            self.line_up(member)

    # --- changes ---------------------------------------------------------------------------------------

    def flushed(self):
        """Learn that one flush of its changes is through, one way or the other."""
        self.flushes -= 1
        self.dirty = True
        if not self.flushes and self._quiet:
            waiting, self._quiet = self._quiet, []
            for tell in waiting:
                tell()

    def when_quiet(self, tell):
        """Call *tell* when none of its changes are on their way to the disk."""
        if self.flushes:
            self._quiet.append(tell)
        else:
            tell()


def _nothing():
    pass
