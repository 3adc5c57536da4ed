"""The verbs by which deliveries are settled: ack, nack, reject, extend. Nothing here waits."""

from ..checks import within
from ..errors import InvalidOption, StaleDelivery
from .changes import Moved, Settled
from .lease import DYING, IN_FLIGHT, SETTLING, WAITING, Lease, count, pairs
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
        for first, next, token in entries:
            found, stale, settling = self._state.find(first, next, token)
            self._act(act, found)
            self._stale += stale
            for lease, runs in settling.items():
                if verb != "ack" or lease.flush is None:
                    self._stale += [offset for run in pairs(runs) for offset in range(*run)]
                elif lease.flush is not self._current:
                    self.earlier.append(lease.flush)
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
        marks = {}

        def act(lease, runs):
            mark = marks.get(lease)
            if mark is None:
                mark = marks[lease] = self._mark(lease)
            self._put(mark, runs)
            self._state.acked += count(runs)

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

    def _mark(self, lease):
        mark = Lease(SETTLING, lease.token, lease.delivery)
        mark.back, mark.flush = lease, self._current
        self._consumer.ops.append(Settled(self._consumer, mark))
        return mark

    def _nack(self, delay_s=None, reason=None):
        delay_s, reason = check_delay("delay_s", delay_s), check_reason(reason)
        consumer, now = self._consumer, self._consumer.home.clock.now()
        most = consumer.options.max_deliveries

        def act(lease, runs):
            if most and lease.delivery >= most:
                self._bury(lease, runs, "max_deliveries", reason)
                return
            wait_s = consumer.delay_s(lease.delivery) if delay_s is None else delay_s
            waiting = Lease(WAITING, lease.token, lease.delivery, now + wait_s, error=reason)
            self._move(waiting, lease, runs)
            if wait_s > 0:
                consumer.arm(waiting)
            else:
                self._state.make_ready(waiting)
        return act

    def _extend(self, seconds):
        seconds = check_delay("seconds", seconds)
        if seconds is None:
            raise InvalidOption("seconds is how long the work may take from now on.", option="seconds")
        due = self._consumer.home.clock.now() + seconds

        def act(lease, runs):
            member = lease.member
            longer = Lease(IN_FLIGHT, lease.token, lease.delivery, due,
                           None if member is None or member.ended else member, lease.error)
            longer.taken = True
            self._move(longer, lease, runs)
            self._consumer.arm(longer)
        return act

    def _reject(self, reason=None):
        reason = check_reason(reason)
        return lambda lease, runs: self._bury(lease, runs, "rejected", reason)

    def _bury(self, lease, runs, why, reason):
        dying = Lease(DYING, lease.token, lease.delivery, error=reason)
        self._put(dying, runs)
        self.burials += 1
        self._consumer.home.bury(self._consumer, dying, why, reason, self._told,
                                 Moved(self._consumer, dying, [(lease, runs)]).failed)

    def _told(self, error):
        self.buried(error)

    def _move(self, to, lease, runs):
        self._put(to, runs)
        self._consumer.ops.append(Moved(self._consumer, to, [(lease, runs)]))

    def _put(self, to, runs):
        for first, next in pairs(runs):
            self._state.put(to, first, next)
