"""Consumer: a named, durable cursor; shares what it reads among its members.

How it hands out is in dealing.py. Runs on the hub; nothing here waits.
"""

import logging

from .dealing import Dealing
from .keys import KeyOrder

logger = logging.getLogger(__name__)

_TURN_LEASES = 500          # that end in one go
_TOP_UP_S = 0.02            # a hand-out for each single message that was settled would cost more than the work
_MOST_GAPS = 16             # told to whoever comes next


class Consumer(Dealing):
    """One durable consumer, see :class:`~zstreampub.consumers.standing.Standing` for its attributes."""

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
            self.left.extend(member.leases)
            self.give_back(now)
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
        self.linger(now)

    def line_up(self, member):
        """Put *member* in the line if it may get something; if it has plenty already, a moment later."""
        if member in self._line or member.room <= 0 or member.ended or not self.is_active(member):
            return
        if not member.has_plenty:
            self._line[member] = None
            self.home.touch(self)
        elif self.top_up_at is None:
            self.top_up_at = self.home.clock.now() + _TOP_UP_S
            self.home.watch_time(self, self.top_up_at)

    def _top_up(self):
        """Put all members in the line that may get something, however little."""
        self.top_up_at = None
        for member in self.members:
            if member.room > 0 and self.is_active(member):
                self._line[member] = None
        self.home.touch(self)

    # --- leases that end -----------------------------------------------------------------------------

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
        if self.top_up_at is not None and self.top_up_at <= now:
            self._top_up()
        if over or state.has_ready or self.unsaved or self.has_changes:
            self.home.touch(self)
        if self.linger_until is not None and self.linger_until <= now:
            self.linger_until = None
            if not self._line and (self.has_leftovers or not self.members):
                self.stop_reading()
        times = [state.next_due, self.retry_at, self.bury_at, self.top_up_at, self.linger_until, self.inactive_at]
        return min((time for time in times if time is not None), default=None)

    @property
    def inactive_at(self):
        """When it is to be deleted, if nothing happens until then; None if never."""
        if self.options.inactive_s is None or self.members or self.takers:
            return None
        return self.used_at + self.options.inactive_s

    def begin_anew(self, state):
        """Go on with *state*; what its members have is not theirs any more."""
        self.stop_reading()
        for member in self.members:
            member.drop()
        self.state = state
        self.keys = KeyOrder() if self.keys is not None else None
        self.prepared = True
        self.again.clear()
        self.left.clear()
        self.instead.clear()
        self.unsaved.clear()
        self.ops, self.mark, self.moving = [], None, {}     # of what it had before
        self.gaps.clear()
        for member in self.members:
            self.line_up(member)
