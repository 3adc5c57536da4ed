"""Standing: what a consumer has pending, and how that ends. Runs on the hub; nothing here waits."""

import logging
import random
from collections import deque

from ..store import Gap
from .changes import Added, Gone
from .keys import KeyOrder
from .lease import DYING, IN_FLIGHT, PARKED, SETTLING, WAITING, Lease, Mark, add_run, pairs, runs_of
from .source import dying, parked

logger = logging.getLogger(__name__)

_TURN_LEASES = 500          # that end in one go
_TURN_MESSAGES = 50_000
_MOST_GAPS = 16             # told to whoever comes next


class Standing:
    """``state`` is what is pending, ``members`` share it; *home* is the Consumers that it belongs to.

    ``paused``: why, or None. ``instead``: offset -> packed payload that this consumer is given.
    ``ops`` are the changes that are not on their way to the disk yet, ``newest_flush`` has the last that are.
    ``unsaved`` are runs that must be written again, under whatever lease they are then, as one of ``failures``
    commits that failed has left out where they were.
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
        self.backlog = None         # a Backlog, once somebody has asked
        self.keys = KeyOrder() if options.mode == "key_ordered" else None
        self.gaps = []
        self.left = deque()         # leases of members that have left
        self.ops = []
        self.mark = None            # of what was acknowledged since the last flush
        self.moving = {}            # what was nacked or extended since then: what it has in common -> Moved
        self.unsaved = []
        self.flushes = self.failures = 0
        self.newest_flush = None
        self.dirty = False
        self.frozen = self.deleted = self.prepared = False
        self.dead = self.undertaker = self.rereading = None     # set by home.add
        self.retry_at = self.bury_at = self.top_up_at = self.linger_until = None
        self.used_at = home.clock.now()
        self.alarm_at = None
        self._quiet = []

    def __repr__(self):
        return f"<Consumer {self.name} {self.state.cursor}>"

    # --- telling ---------------------------------------------------------------------------------------

    def is_active(self, member):
        return self.options.mode != "exclusive" or not self.members or self.members[0] is member

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
            lease.uncount()
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

    def give_back(self, now):
        """End the leases of members that have left: some thousand messages at a time, for the hub has others, too."""
        left, messages = self.left, 0
        while left and messages < _TURN_MESSAGES:
            lease = left.popleft()
            if lease.kind == IN_FLIGHT and lease.member is not None and lease.member.ended:
                messages += lease.left + _TURN_MESSAGES // _TURN_LEASES
                self.lapse(lease, now)
                self.ops.append(Added(self, lease, lease.now(self.state.pending)))      # what is settled stays so
        if left:
            self.home.touch(self)

    def arm(self, lease):
        self.state.arm(lease)
        self.home.watch_time(self, lease.due)

    def is_waiting(self, lease):
        """Whether what is under *lease* may still be given another payload: nobody has it."""
        return lease.kind in (WAITING, PARKED)

    def delay_s(self, delivery):
        return self.options.delay_s(delivery, random.random())

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

    def has_settled(self, offset):
        """Whether *offset*, of a topic of its own, is behind it."""
        state = self.state
        return (offset < state.cursor or offset in state.ahead) and offset not in state.pending

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
        # Of those that are dying there is a dead letter on its way, or who looks for them will tell.
        runs = runs_of(offset for offset in offsets if pending[offset].kind not in (DYING, SETTLING))
        if runs:
            self.drop(runs, "retention")

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
        mark, pending = Mark(), self.state.pending
        for first, next in pairs(runs):
            for offset in range(first, next):
                self.state.mark(pending[offset], [offset, offset + 1], mark)
            self.tell_gap(Gap(first, next, next - first, why))
        self.ops.append(Gone(self, mark))
        self.home.touch(self)

    def _pend(self, lease, offset):
        self.state.add(lease, offset, offset + 1)
        last = self.ops[-1] if self.ops else None
        if lease.kind == PARKED and type(last) is Added and last.lease.kind == PARKED and last.grows:
            self.state.put(last.lease, offset, offset + 1)      # one lease for many
        else:
            self.ops.append(Added(self, lease))

    def _write_again(self):
        """Write what a failed commit has left out."""
        pending, leases = self.state.pending, {}
        for offset in sorted({one for first, next in pairs(self.unsaved) for one in range(first, next)}):
            lease = pending.get(offset)
            if lease is not None and lease.kind != SETTLING:    # that has been noted, and comes again if it fails
                add_run(leases.setdefault(lease, []), offset, offset + 1)
        self.unsaved = []
        self.ops += [Added(self, lease, runs) for lease, runs in leases.items()]

    # --- changes ---------------------------------------------------------------------------------------

    @property
    def has_changes(self):
        """Whether something is to be written."""
        return bool(self.ops) or (self.mark is not None and self.mark.size > 0)

    def flushed(self):
        """Learn that one flush of its changes is through, one way or the other."""
        self.flushes -= 1
        self.dirty = True
        self.home.moved(self)
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
