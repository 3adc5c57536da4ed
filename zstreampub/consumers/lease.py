"""Lease: what some pending messages have in common; and runs, the way in which offsets are written down.

A run is a pair of a flat list ``[first, next, first, next, ...]``. Nothing here knows the time.
"""

from math import ceil

TICKS = 64          # in a second: leases that are due in the same one come up together

IN_FLIGHT = 0       # at a member (or at nobody after a restart) until ``due``
WAITING = 1         # to be handed out (again) from ``due`` on
PARKED = 2          # waits for an earlier message of its key
DYING = 3           # on its way to the dead letters
SETTLING = 4        # settled, but that is not on disk yet


class Lease:
    """The state that pending messages share: one hand-out, or what is left of it.

    ``left`` is how many messages are under it now, ``runs`` are the ``size`` messages that once were. ``token``
    and ``delivery`` are of the last hand-out (0: none yet); the token is negative if that does not count as a
    delivery. ``due`` is a deadline or the time of the next delivery. ``ready``: waiting, and its time has come.
    ``taken``: the member has seen some of it. ``error``: what was said of the last delivery.
    """

    __slots__ = ("kind", "token", "delivery", "due", "member", "left", "size", "ready", "taken", "error",
                 "_first", "_all")

    def __init__(self, kind, token=0, delivery=0, due=0.0, member=None, error=""):
        self.kind = kind
        self.token = token
        self.delivery = delivery
        self.due = due
        self.member = member
        self.left = self.size = 0
        self.ready = self.taken = False
        self.error = error
        self._first = 0     # mostly there is one run: a list for it would cost as much as all the rest
        self._all = None    # the runs, if there are more

    def __repr__(self):
        return f"<Lease {self.kind} token {self.token} delivery {self.delivery} of {self.left} in {self.runs}>"

    @property
    def runs(self):
        if self._all is not None:
            return list(self._all)
        return [self._first, self._first + self.size] if self.size else []

    def cover(self, first, next):
        """Note that ``[first, next)`` is under it."""
        if self._all is not None:
            add_run(self._all, first, next)
        elif not self.size:
            self._first = first
        elif first != self._first + self.size:
            self._all = [*self.runs, first, next]
        self.size += next - first

    def uncount(self):
        """Nobody has looked at what was handed out: that does not count as a delivery, however often it is said."""
        if self.token > 0:
            self.token = -self.token
            self.delivery -= 1

    def offsets(self, pending):
        """Yield the offsets of those messages that are under it still."""
        for first, next in pairs(self.runs):
            for offset in range(first, next):
                if pending.get(offset) is self:
                    yield offset

    def now(self, pending):
        """Return the runs of those messages that are under it still."""
        return runs_of(self.offsets(pending))


class Mark(Lease):
    """The lease of messages that were settled, until that is on disk.

    ``parts`` are ``(lease, runs)``: under which leases they were. ``flush`` is what takes it to the disk, None if
    no member has settled them.
    """

    __slots__ = ("parts", "flush", "_behind")

    def __init__(self, flush=None):
        super().__init__(SETTLING)
        self.parts = []
        self.flush = flush
        self._behind = None

    def behind(self, offset):
        """Return the lease under which *offset* was."""
        if self._behind is None or len(self._behind) != self.size:
            self._behind = {one: lease for lease, runs in self.parts
                            for first, next in pairs(runs) for one in range(first, next)}
        return self._behind[offset]


def tick_of(due):
    """Return the number of the tick in which a lease comes up."""
    return ceil(due * TICKS)


def add_run(runs, first, next):
    """Add a run at the end of *runs*; one that continues the last is joined with it."""
    if runs and runs[-1] == first:
        runs[-1] = next
    else:
        runs += (first, next)


def pairs(runs):
    """Return the runs as an iterator of ``(first, next)``."""
    numbers = iter(runs)
    return zip(numbers, numbers)


def count(runs):
    """Return how many offsets the runs have."""
    return sum(runs[1::2]) - sum(runs[::2])


def runs_of(offsets):
    """Return the runs of *offsets*, which come in order."""
    runs = []
    for offset in offsets:
        add_run(runs, offset, offset + 1)
    return runs
