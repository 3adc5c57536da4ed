"""Consumer: a named, durable cursor; shares what it reads among its members.

How it hands out is in dealing.py. Runs on the hub; nothing here waits.
"""

import logging
import random

from .changes import Added
from .dealing import Dealing
from .keys import KeyOrder
from .lease import IN_FLIGHT, PARKED, SETTLING, WAITING, Lease, pairs, runs_of

logger = logging.getLogger(__name__)

_TURN_LEASES = 2_000        # that end in one go
_LINGER_S = 5.0             # what was read for a fetch is kept for the next one
_MOST_GAPS = 16             # told to whoever comes next


class Consumer(Dealing):
    """``state`` is what is pending, ``members`` share it; *home* is the Consumers that it belongs to.

    ``paused``: why, or None. ``instead``: offset -> packed payload that this consumer is given.
    ``ops`` are the changes that are not on their way to the disk yet, ``unsaved`` the leases that
    must be written again as a commit has failed.
    """

    def __init__(self, home, name, wanted, options, state, created_us):
        super().__init__()
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
        self.gaps = []
        self.ops = []
        self.unsaved = []
        self.flushes = 0
        self.dirty = False
        self.frozen = self.deleted = self.prepared = False
        self.dead = self.undertaker = self.rereading = None     # set by home.add
        self.retry_at = self.bury_at = self.linger_until = None
        self.used_at = home.clock.now()
        self.alarm_at = None
        self._quiet = []

    def __repr__(self):
        return f"<Consumer {self.name} {self.state.cursor}>"

    # --- members ---------------------------------------------------------------------------------

    def join(self, member):
        """Take *member* in."""
        self.members.append(member)
        if self.gaps:
            for gap in self.gaps:
                member.tell(gap)
            self.gaps.clear()
            self.home.write_head(self)
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

    def serve(self, taker):
        """Have *taker*, a fetch, given what there is, until :meth:`give_up`."""
        self.takers[taker] = None
        self.line_up(taker)
        self.home.touch(self)

    def give_up(self, taker):
        """Take a fetch that is over out of the line; what was read is kept a while for the next."""
        self.takers.pop(taker, None)
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
        self.home.write_head(self)

    def log_gap(self, gap):
        logger.warning("consumer %s: messages in [%d, %d) are gone: %s", self.name, gap.first, gap.next, gap.why)

    # --- leases that end -----------------------------------------------------------------------------

    def lapse(self, lease, now, delay_s=0.0):
        """End *lease*, if it is in flight: what is under it is delivered again, or is a dead letter."""
        if lease.kind != IN_FLIGHT:
            return
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
        for first, next in pairs(runs):
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

