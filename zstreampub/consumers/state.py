"""ConsumerState: what is pending of a consumer, and under which lease. Pure: no clock, no store, no greenlet.

Every message below ``cursor`` that the consumer wants is pending or settled. Times are passed in. What an
operation costs does not depend on how much is pending.
"""

from collections import deque
from heapq import heappop, heappush
from itertools import islice

from .lease import IN_FLIGHT, PARKED, SETTLING, TICKS, WAITING, add_run, pairs, runs_of, tick_of
from .pending import Pending

RECENT = 4_096      # settled offsets whose token is remembered, for acks that are repeated
_TIMED = (IN_FLIGHT, WAITING)


class ConsumerState:
    """``id`` names this incarnation: a seek begins a new one.

    ``pending`` maps offsets to their Lease. ``ahead`` has offsets at or after the cursor that were handed out
    before their turn, ``loose`` those of which no hand-out is known to be on disk: the cursor waits for them, as
    what is below it and not written down is settled. ``sent`` and ``saved`` are the cursor as it was last written,
    and as it is on disk.
    """

    def __init__(self, id, cursor, trims=0):
        self.id = id
        self.cursor = self.sent = self.saved = cursor
        self.passed = set()             # were ahead of the cursor, which has passed them and is not saved yet
        self.unsure = None              # a move has failed, and what comes until this flush may fail, too
        self.torn = 0                   # a move of the cursor up to here was not stored, perhaps a later one was
        self.trims = trims              # trims up to this mark have been told, or were before the start
        self.pending = Pending()
        self.ahead = set()
        self.loose = set()
        self.in_flight = self.settling = 0
        self.acked = self.redelivered = 0
        self.part = 0                   # the number of its newest snapshot, see snapshot.py
        self.recent = {}                # offset -> token
        self._order = deque()           # runs in which everything pending lies, but for what is ahead
        self._dues = {}                 # tick -> leases
        self._ticks = []                # heap of the keys of that
        self._armed = 0
        self._ready = []                # heap of runs
        self._sweep_at = 4096

    @property
    def is_whole(self):
        """Whether a snapshot tells all: what was settled beyond a move that was not stored is in the journal only."""
        return self.saved >= self.torn

    @property
    def live(self):
        """How many messages are pending and not about to leave."""
        return len(self.pending) - self.settling

    @property
    def waiting(self):
        return self.live - self.in_flight

    @property
    def lowest(self):
        """The lowest pending offset below the cursor, None if there is none."""
        order = self._order
        while order:
            lowest = self.pending.lowest(*order[0])
            if lowest is not None:
                order[0][0] = lowest
                return lowest
            order.popleft()
        return None

    @property
    def floor(self):
        """Everything wanted below is settled."""
        lowest = self.lowest
        return self.cursor if lowest is None else min(lowest, self.cursor)

    def runs(self, before):
        """Return runs ``(first, next)`` in which all lies that is pending below *before*."""
        below = [tuple(run) for run in self._order if run[0] < before] if self.lowest is not None else []
        return below + list(pairs(runs_of(sorted(one for one in self.ahead if one < before and one in self.pending))))

    def offsets(self):
        """Return what is pending, in order."""
        return sorted(self.pending)

    # --- leases ----------------------------------------------------------------------------

    def add(self, lease, first, next):
        """Make ``[first, next)`` pending, under *lease*; none of it is yet."""
        self.pending.put(first, next, lease)
        if next > self.cursor and first >= self.cursor:
            self.ahead.update(range(first, next))
            self.loose.update(range(first, next))
        else:
            self._note_order(first, next)
        lease.cover(first, next)
        self._enter(lease, next - first)

    def put(self, lease, first, next):
        """Put ``[first, next)``, all of it pending, under *lease*."""
        pending, last, many = self.pending, None, 0
        for offset in range(first, next):
            old = pending[offset]
            pending[offset] = lease
            if old is last:
                many += 1
                continue
            if many:
                self._leave(last, many)
            last, many = old, 1
        self._leave(last, many)
        lease.cover(first, next)
        self._enter(lease, next - first)

    def move(self, lease, runs, to):
        """Put *runs*, all of it under *lease*, under the lease *to*."""
        many = 0
        for first, next in pairs(runs):
            self.pending.put(first, next, to)
            to.cover(first, next)
            many += next - first
        self._leave(lease, many)
        self._enter(to, many)

    def mark(self, lease, runs, mark):
        """Put *runs*, all of it under *lease*, under *mark*: settled, as soon as that is on disk."""
        self.move(lease, runs, mark)
        mark.parts.append((lease, runs))

    def put_back(self, lease, back, runs):
        """Put what is still under *lease*, of *runs*, under *back* again."""
        for first, next in pairs(runs):
            for offset in range(first, next):
                if self.pending.get(offset) is lease:
                    self.put(back, offset, offset + 1)
                    if back.ready:
                        heappush(self._ready, (offset, offset + 1))

    def turn(self, lease, kind, due=0.0, member=None):
        """Change all of *lease* at once."""
        left = lease.left
        self._leave(lease, left)
        lease.kind, lease.due, lease.member, lease.ready = kind, due, member, False
        self._enter(lease, left)

    def remove(self, lease, runs):
        """Forget what is still under *lease* of *runs*: it is settled."""
        self._leave(lease, self.pending.remove(runs, lease))

    def pass_by(self, offset):
        """Move the cursor past *offset*, which is ahead."""
        self.ahead.discard(offset)
        self.cursor = offset + 1
        self.passed.add(offset)
        if offset in self.pending:
            self._note_order(offset, offset + 1)

    def save(self, cursor):
        """Learn that the cursor is on disk as *cursor*."""
        self.saved = cursor
        if self.passed:
            self.passed = {offset for offset in self.passed if offset >= cursor}

    def remember(self, runs, token):
        """Note that *runs* were settled under *token*."""
        recent = self.recent
        for first, next in pairs(runs):
            recent.update(dict.fromkeys(range(max(first, next - RECENT), next), token))
        if len(recent) > 2 * RECENT:
            self.recent = dict(islice(recent.items(), len(recent) - RECENT, None))

    def _note_order(self, first, next):
        order = self._order
        if order and order[-1][1] == first:
            order[-1][1] = next
        else:
            order.append([first, next])

    def _enter(self, lease, many):
        lease.left += many
        if lease.kind == IN_FLIGHT:
            self.in_flight += many
            if lease.member is not None:
                lease.member.count(lease, many)
        elif lease.kind == SETTLING:
            self.settling += many

    def _leave(self, lease, many):
        lease.left -= many
        if lease.kind == IN_FLIGHT:
            self.in_flight -= many
            if lease.member is not None:
                lease.member.count(lease, -many)
        elif lease.kind == SETTLING:
            self.settling -= many

    # --- finding -----------------------------------------------------------------------------

    def find(self, first, next, token, unseen=False):
        """Return ``(found, stale, marks)`` of the deliveries ``[first, next)`` under *token* (None: any).

        *found* is a list of ``(lease, runs)``, *stale* the offsets whose delivery no longer counts, *marks* are
        those of what was settled under the same token, and is not on disk yet. *unseen*: what *token* has given back
        as that before counts as well, as after an answer that was lost.
        """
        found, stale, marks = {}, [], []
        named = () if not token else (token, -token) if unseen else (token,)
        pending, last, runs = self.pending, self, stale
        for offset in range(first, next):
            lease = pending.get(offset)
            if lease is not last:
                last, runs = lease, None
                if (lease is not None and lease.kind in _TIMED
                        and (lease.delivery if token is None else lease.token in named)):
                    runs = found.setdefault(lease, [])
            if runs is not None:
                add_run(runs, offset, offset + 1)
            elif lease is not None and lease.kind == SETTLING and lease.flush is not None and (
                    token is None or lease.behind(offset).token == token):
                marks.append(lease)
            elif lease is not None or not self._was_settled(offset, token):
                stale.append(offset)
        return found.items(), stale, marks

    def _was_settled(self, offset, token):
        settled_by = self.recent.get(offset)
        return settled_by is not None and (token is None or settled_by == token)

    # --- time ----------------------------------------------------------------------------------

    def arm(self, lease):
        """Have *lease* come up at its ``due``, or a moment later."""
        tick = tick_of(lease.due)
        leases = self._dues.get(tick)
        if leases is None:
            leases = self._dues[tick] = []
            heappush(self._ticks, tick)
        leases.append(lease)
        self._armed += 1
        if self._armed > self._sweep_at:
            self._sweep()

    def _sweep(self):
        """Forget leases that have ended: most do so long before they are due."""
        self._dues = {tick: kept for tick, leases in self._dues.items()
                      if (kept := [lease for lease in leases if _comes_up(lease, tick)])}
        self._ticks = sorted(self._dues)
        self._armed = sum(map(len, self._dues.values()))
        self._sweep_at = 2 * self._armed + 4096

    @property
    def next_due(self):
        """When the next lease comes up, None if there is none."""
        while self._ticks:
            tick = self._ticks[0]
            leases = self._dues[tick]
            while leases and not _comes_up(leases[-1], tick):
                leases.pop()
                self._armed -= 1
            if leases:
                return tick / TICKS
            del self._dues[heappop(self._ticks)]
        return None

    def due(self, now, most):
        """Return at most *most* leases in flight whose deadline is over; what waits for its time becomes ready."""
        over = []
        while most > 0 and (due := self.next_due) is not None and due <= now:
            lease = self._dues[self._ticks[0]].pop()
            self._armed -= 1
            most -= 1
            if lease.kind == WAITING:
                self.make_ready(lease)
            else:
                over.append(lease)
        return over

    # --- what waits ----------------------------------------------------------------------------

    @property
    def has_ready(self):
        return bool(self._ready)

    def make_ready(self, lease):
        """All that is under *lease*, which waits, may be handed out."""
        lease.ready = True
        for run in pairs(lease.runs):
            heappush(self._ready, run)

    def ready_again(self, first, next):
        """Give back a run that :meth:`take_ready` returned."""
        heappush(self._ready, (first, next))

    def is_ready(self, offset):
        """Return the lease of *offset* if it may be handed out, else None."""
        lease = self.pending.get(offset)
        return lease if lease is not None and lease.ready and lease.kind == WAITING else None

    def take_ready(self, most):
        """Return the lowest offsets that may be handed out, at most *most*, in order."""
        taken: set = set()
        while self._ready and len(taken) < most:
            first, next = heappop(self._ready)
            for offset in range(first, next):
                if len(taken) >= most:
                    heappush(self._ready, (offset, next))
                    break
                if self.is_ready(offset) is not None:
                    taken.add(offset)
        return sorted(taken)

    # --- after loading -----------------------------------------------------------------------------

    def restore(self, now, grace_s):
        """Count and file what ``pending`` was filled with; leases of before end after *grace_s* at the latest."""
        leases = []
        for offset in self.offsets():
            lease = self.pending[offset]
            if not lease.left:
                leases.append(lease)
            lease.cover(offset, offset + 1)
            lease.left += 1
            if offset >= self.cursor:
                self.ahead.add(offset)
            else:
                self._note_order(offset, offset + 1)
        for lease in leases:
            lease.taken = True
            if lease.kind == IN_FLIGHT:
                lease.due = min(lease.due, now + grace_s)
                self.in_flight += lease.left
            if lease.kind != PARKED:
                self.arm(lease)


def _comes_up(lease, tick):
    return lease.left > 0 and not lease.ready and lease.kind in _TIMED and tick_of(lease.due) == tick
