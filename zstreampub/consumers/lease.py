"""Lease: what some pending messages have in common; and runs, the way in which offsets are written down.

A run is a pair of a flat list ``[first, next, first, next, ...]``. Nothing here knows the time.
"""

IN_FLIGHT = 0       # at a member (or at nobody after a restart) until ``due``
WAITING = 1         # to be handed out (again) from ``due`` on
PARKED = 2          # waits for an earlier message of its key
DYING = 3           # on its way to the dead letters
SETTLING = 4        # settled, but that is not on disk yet


class Lease:
    """The state that pending messages share: one hand-out, or what is left of it.

    ``left`` is how many messages are under it now; ``runs`` are those that once were. ``token`` and
    ``delivery`` are of the last hand-out (0: none yet). ``due`` is a deadline or the time of the next
    delivery. ``ready``: waiting, and its time has come. ``taken``: the member has seen some of it.
    ``error``: what was said of the last delivery. ``back``: of what settles, the lease from before.
    """

    __slots__ = ("kind", "token", "delivery", "due", "member", "runs", "left", "ready", "taken", "error", "back",
                 "flush")

    def __init__(self, kind, token=0, delivery=0, due=0.0, member=None, error=""):
        self.kind = kind
        self.token = token
        self.delivery = delivery
        self.due = due
        self.member = member
        self.runs = []
        self.left = 0
        self.ready = self.taken = False
        self.error = error
        self.back = self.flush = None

    def __repr__(self):
        return f"<Lease {self.kind} token {self.token} delivery {self.delivery} of {self.left} in {self.runs}>"

    def offsets(self, pending):
        """Yield the offsets of those messages that are under it still."""
        for first, next in pairs(self.runs):
            for offset in range(first, next):
                if pending.get(offset) is self:
                    yield offset

    def now(self, pending):
        """Return the runs of those messages that are under it still."""
        return runs_of(self.offsets(pending))


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
