"""Operations on consumers, and Flush: those that become true together, or not at all.

An operation has happened in memory when it is made; ``packed`` is how it is written down, ``done`` is called
when it is on disk, ``failed`` when it is not and never will be: then it takes back what it did, as far as
nothing else has happened to the same messages since.
"""

import itertools

from . import journal
from .lease import IN_FLIGHT, PARKED, WAITING, pairs

_AGAIN_S = 1.0      # what could not be written is tried again after this long


class Settled:
    """Messages were acknowledged: they are under *lease*, a Mark."""

    def __init__(self, consumer, lease):
        self.consumer = consumer
        self.state = consumer.state
        self.lease = lease
        self.state.acked += lease.size

    def packed(self, clock):
        return journal.settled(self.lease.runs)

    def done(self):
        mark, state = self.lease, self.state
        _wrote(self, mark.runs)
        state.remove(mark, mark.runs)
        for lease, runs in mark.parts:
            state.remember(runs, lease.token)
        if state is self.consumer.state:
            self.consumer.settled(mark.runs)
        self.consumer.home.acked(self.consumer, mark.runs)

    def failed(self, now):
        self.state.acked -= self.lease.size
        for lease, runs in self.lease.parts:
            _put_back(self, lease, runs, now)


class HandedOut:
    """Messages were handed out to a member, under *lease*; *items* are what it is to be given."""

    def __init__(self, consumer, lease):
        self.consumer = consumer
        self.state = consumer.state
        self.lease = lease
        self.member = lease.member
        self.token, self.delivery, self.due = lease.token, lease.delivery, lease.due
        self.items = []

    def packed(self, clock):
        return journal.leased(self.lease, self.lease.runs, clock)

    def done(self):
        _wrote(self, self.lease.runs)
        self.member.give(self.items)

    def failed(self, now):
        """Nobody has seen it: it waits as before, and that is written with the next change."""
        lease, state = self.lease, self.state
        self.member.not_given(self.items)
        if state is not self.consumer.state:
            return
        if lease.kind == IN_FLIGHT:
            state.turn(lease, WAITING, now + _AGAIN_S)
            lease.uncount()
            self.consumer.arm(lease)
        for extended in self._extended():
            state.turn(extended, IN_FLIGHT, extended.due)       # the member has no less room for it
        self.consumer.unsaved += lease.runs

    def _extended(self):
        """Return the leases to which its messages were moved on the way by who named no token."""
        pending, found = self.state.pending, {}
        for first, next in pairs(self.lease.runs):
            for offset in range(first, next):
                lease = pending.get(offset)
                if lease is not None and lease.member is self.member and lease.token == self.token:
                    found[lease] = None
        return found


class Moved:
    """Messages went from the leases of *parts*, pairs of a lease and runs, to *lease*."""

    def __init__(self, consumer, lease, parts):
        self.consumer = consumer
        self.state = consumer.state
        self.lease = lease
        self.parts = parts

    def packed(self, clock):
        return journal.leased(self.lease, self.lease.runs, clock)

    def done(self):
        _wrote(self, self.lease.runs)

    def failed(self, now):
        for back, runs in self.parts:
            _put_back(self, back, runs, now)


class Added:
    """Messages became pending under *lease* without being handed out; or what was not written is written again."""

    def __init__(self, consumer, lease, runs=None):
        self.consumer = consumer
        self.state = consumer.state
        self.lease = lease
        self._runs = runs

    @property
    def grows(self):
        """Whether what comes under its lease is written with it."""
        return self._runs is None

    def packed(self, clock):
        return journal.leased(self.lease, self.lease.runs if self._runs is None else self._runs, clock)

    def done(self):
        _wrote(self, self.lease.runs if self._runs is None else self._runs)

    def failed(self, now):
        if self.state is self.consumer.state:
            self.consumer.unsaved += self.lease.runs if self._runs is None else self._runs


class Gone:
    """Messages that are not there any more (retention, expiry) are under *lease*, a Mark; nobody waits for it."""

    def __init__(self, consumer, lease):
        self.consumer = consumer
        self.state = consumer.state
        self.lease = lease

    def packed(self, clock):
        return journal.gone(self.lease.runs)

    def done(self):
        _wrote(self, self.lease.runs)
        self.state.remove(self.lease, self.lease.runs)
        if self.state is self.consumer.state:
            self.consumer.settled(self.lease.runs)

    def failed(self, now):
        if self.state is self.consumer.state:
            self.consumer.ops.append(self)      # with the next change


class Flush:
    """What one append carries: ``ops``, where the cursors go, and who waits for the outcome."""

    __slots__ = ("ops", "moves", "replies", "records", "error", "number")

    numbers = itertools.count()

    def __init__(self):
        self.number = next(self.numbers)
        self.ops = []
        self.moves = []         # (consumer, state, cursor from, cursor to)
        self.replies = []       # (reply, count, error)
        self.records = {}
        self.error = None

    def __bool__(self):
        return bool(self.ops or self.moves or self.records)

    def take(self, consumer, clock):
        """Take the operations of *consumer*; return how they are written down."""
        state, ops, mark = consumer.state, consumer.ops, consumer.mark
        if mark is not None and mark.size:
            ops.append(Settled(consumer, mark))     # last: what is acknowledged stays so, whatever came before
        consumer.ops, consumer.mark, consumer.moving = [], None, {}
        consumer.flushes += 1
        consumer.newest_flush = self
        self.ops += ops
        # Where one has failed, those under way may, too: until it is known, the cursor must not pass what they carry.
        to = state.cursor if state.unsure is None else state.sent
        self.moves.append((consumer, state, state.sent, to))
        packed = [state.id, state.sent, to, state.acked, state.redelivered, *[op.packed(clock) for op in ops]]
        state.sent = to
        return packed

    def done(self, report):
        """It is on disk."""
        for _, state, cursor_from, cursor_to in self.moves:
            if cursor_from <= state.saved < cursor_to:
                state.save(cursor_to)
        for op in self.ops:
            _guarded(report, op.done)
        self._let_go()

    def failed(self, error, now, report):
        """It is not, and never will be."""
        self.error = error
        for consumer, state, cursor_from, cursor_to in self.moves:
            if cursor_from < cursor_to:     # or one that is under way would be moved over without what it carries
                state.sent = min(state.sent, cursor_from)
                state.torn = max(state.torn, cursor_to)
                state.unsure = consumer.newest_flush
        for op in reversed(self.ops):
            _guarded(report, op.failed, now)
        for consumer, *_ in self.moves:
            consumer.failures += 1
        self._let_go()

    def _let_go(self):
        for consumer, state, *_ in self.moves:
            if consumer.newest_flush is self:
                consumer.newest_flush = None
            if state.unsure is self:
                state.unsure = None
            consumer.flushed()

    def answer(self, report):
        """Tell whoever waits, and let go of everything: the marks know this flush, and would be a circle with it."""
        for reply, count, error in self.replies:
            _guarded(report, reply, 0 if self.error else count, self.error or error)
        self.ops, self.replies = [], []


def _wrote(op, runs):
    """Note that *runs* are on disk: the cursor may have waited for that."""
    loose = op.state.loose
    if loose:
        for first, next in pairs(runs):
            loose.difference_update(range(first, next))
        op.consumer.home.touch(op.consumer)


def _put_back(op, back, runs, now):
    """Put *runs* back under the lease *back*, whose time or member may be gone meanwhile."""
    consumer, state = op.consumer, op.state
    state.put_back(op.lease, back, runs)
    if state is not consumer.state:
        return
    consumer.unsaved += runs        # where it was may not be on disk either, nor where it has gone since
    if not back.left:
        return
    if back.kind == IN_FLIGHT and back.member is not None and back.member.ended:
        consumer.lapse(back, now)
    elif not back.ready and back.kind != PARKED:
        consumer.arm(back)


def _guarded(report, call, *arguments):
    try:
        call(*arguments)
    except Exception as error:      # one consumer's trouble, or one caller's, is not the others'
        report(error)
