"""The verbs by which deliveries are settled: ack, nack, reject, extend. Nothing here waits."""

from ..checks import within
from ..errors import InvalidOption, StaleDelivery
from .changes import Moved
from .lease import DYING, IN_FLIGHT, WAITING, Lease, Mark, count, pairs, tick_of
from .options import MAX_DELIVERIES, check_delay, check_deliveries, check_reason

VERBS = ("ack", "nack", "reject", "extend")

_TOLD = 20      # offsets that the text of an error names


class Settling:
    """One call: ``run`` does it in memory and notes the operations; ``count`` and ``error`` are for the reply.

    ``earlier`` are commits under way that the reply has to wait for besides what was noted now.
    ``buried(error)`` is called for each of the ``burials``. ``before``: this much is left to acknowledge.
    """

    def __init__(self, consumer, flush):
        self.count = self.burials = 0
        self.error = self.before = None
        self.earlier = []
        self.buried = None
        self._consumer = consumer
        self._state = consumer.state
        self._current = flush
        self._stale = []

    def run(self, verb, deliveries, options):
        """Settle *deliveries*. Raises InvalidOption before anything is done."""
        entries = check_deliveries([] if deliveries is None else deliveries)
        act = getattr(self, f"_{verb}")(**options)
        pending = self._state.pending
        for first, next, token in entries:
            lease = pending.get(first)
            if next == first + 1 and token and lease is not None and lease.token == token and lease.kind == IN_FLIGHT:
                act(lease, [first, next])       # what nearly all of them are
                self.count += 1
                continue
            found, stale, marks = self._state.find(first, next, token, options.get("unseen", False))
            self._act(act, found)
            if verb == "ack":       # said before by the same token: it is true when that is on disk
                self.earlier += {mark.flush for mark in marks if mark.flush is not self._current}
            elif marks:
                stale += [offset for offset in range(first, next) if pending.get(offset) in marks]
            self._stale += stale
        if self._stale:
            self.error = self._stale_error(verb)
        return self

    def _act(self, act, found):
        for lease, runs in tuple(found):
            act(lease, runs)
            self.count += count(runs)

    def _stale_error(self, verb):
        offsets = sorted(self._stale)
        named = ", ".join(map(str, offsets[:_TOLD])) + (", ..." if len(offsets) > _TOLD else "")
        return StaleDelivery(
            f"{verb}: {len(offsets)} of the deliveries no longer count, at {named}: the message was delivered again "
            "since, is settled, or was never delivered. Whatever else the call named has been done.",
            offsets=offsets, consumer=self._consumer.name)

    # --- verbs: each checks its options and returns what is to be done with (lease, runs) ------------

    def _ack(self, before=None):
        state, consumer = self._state, self._consumer
        if consumer.mark is None or not consumer.mark.size:     # an empty one may be of a flush that is through
            consumer.mark = Mark(self._current)

        def act(lease, runs):
            state.mark(lease, runs, consumer.mark)

        if before is not None:
            before = within("before", before, None, 0, 1 << 53)
            self._ack_before(before, act)
        return act

    def _ack_before(self, before, act):
        state, most = self._state, MAX_DELIVERIES
        for first, next in state.runs(before):
            next = min(next, before, first + most)
            self._act(act, state.find(first, next, None)[0])
            most -= next - first
            if most <= 0:
                self.before = before    # the rest in another turn, for the hub has others too
                break

    def _nack(self, delay_s=None, reason=None, unseen=False, member=None):
        if type(unseen) is not bool:
            raise InvalidOption(f"unseen is true or false, not {unseen!r:.60}.", option="unseen")
        if unseen:
            return self._give_back(delay_s, reason, member)
        if member is not None:
            raise InvalidOption("member is one that leaves: it goes with unseen.", option="member")
        delay_s, reason = check_delay("delay_s", delay_s), check_reason(reason)
        consumer, now = self._consumer, self._consumer.home.clock.now()
        most = consumer.options.max_deliveries

        def act(lease, runs):
            if most and lease.delivery >= most:
                self._bury(lease, runs, "max_deliveries", reason)
                return
            wait_s = consumer.delay_s(lease.delivery) if delay_s is None else delay_s
            self._wait(lease, runs, now + wait_s, wait_s <= 0, reason)
        return act

    def _give_back(self, delay_s, reason, leaver):
        """Nobody has looked at them: they come again at once, and this delivery does not count.

        The member with the id *leaver* is given nothing more, and what it has not taken comes back as well.
        """
        if not isinstance(leaver, (str, type(None))):
            raise InvalidOption(f"member is the id in the greeting of a member, not {leaver!r:.60}.", option="member")
        if delay_s is not None or reason is not None:
            raise InvalidOption("What is unseen comes again at once, and for no reason: leave out delay_s and reason.",
                                option="unseen")
        now = self._consumer.home.clock.now()

        def act(lease, runs):
            self._wait(lease, runs, now, True, lease.error, True)

        for member in self._consumer.members:
            if member.id == leaver:
                self._take_back(member, act)
        return act

    def _take_back(self, member, act):
        """Do *act* with what *member* was given and has not taken; it is given nothing more."""
        for batch, token in member.leaving():
            self._act(act, self._state.find(batch.first, batch.next, token)[0])
        pending = self._state.pending
        on_the_way = [lease for lease in member.leases if not lease.taken]
        self._act(act, [(lease, lease.now(pending)) for lease in on_the_way])

    def _wait(self, lease, runs, due, is_ready, error, unseen=False):
        if self._move(lease, runs, WAITING, due, None, error, is_ready, unseen).ready:
            for first, next in pairs(runs):
                self._state.ready_again(first, next)

    def _extend(self, seconds):
        seconds = check_delay("seconds", seconds)
        if seconds is None:
            raise InvalidOption("seconds is how long the work may take from now on.", option="seconds")
        due = self._consumer.home.clock.now() + seconds

        def act(lease, runs):
            member = lease.member
            holder = None if member is None or member.ended else member
            self._move(lease, runs, IN_FLIGHT, due, holder, lease.error).taken = True
        return act

    def _reject(self, reason=None):
        reason = check_reason(reason)
        return lambda lease, runs: self._bury(lease, runs, "rejected", reason)

    def _bury(self, lease, runs, why, reason):
        dying = Lease(DYING, lease.token, lease.delivery, error=reason)
        self._state.move(lease, runs, dying)
        self.burials += 1
        self._consumer.home.bury(self._consumer, dying, why, reason, self._told,
                                 Moved(self._consumer, dying, [(lease, runs)]).failed)

    def _told(self, error):
        self.buried(error)

    def _move(self, lease, runs, kind, due, member=None, error="", ready=False, unseen=False):
        """Put *runs* of *lease* under a lease of that *kind*, and return it.

        What leaves *lease* with one flush and comes up in the same tick shares it: one for each message takes several
        times the memory, and Python's garbage collection holds the hub to look at them all.
        """
        consumer, key = self._consumer, (lease, kind, tick_of(due), member, error, ready, unseen)
        moved = consumer.moving.get(key)
        if moved is None or moved.lease.kind != kind:
            to = Lease(kind, lease.token, lease.delivery, due, member, error)
            to.ready = ready
            if unseen:
                to.uncount()
            moved = consumer.moving[key] = Moved(consumer, to, [])
            consumer.ops.append(moved)
        to = moved.lease
        is_new = not to.left
        self._state.move(lease, runs, to)
        moved.parts.append((lease, runs))
        if is_new and not to.ready:
            consumer.arm(to)
        return to
