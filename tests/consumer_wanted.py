"""What the book of a durable consumer (tests/consumer_book.py) knows of one message, and of one call."""

NEW, OUT, BACK, ACKED, DEAD, GONE, OUTSIDE = "new", "out", "back", "acked", "dead", "gone", "outside"
UNSETTLED = (NEW, OUT, BACK)
FAR = float("inf")
FLAGS = ("hidden", "unsure", "vaguely", "removed", "dropped", "rejected", "released", "told", "perhaps")


class Wanted:
    """One wanted message. ``tokens`` are those under which it was seen, the newest last.

    ``lease`` is until when a member has it, ``due`` the time before which it may not, ``late`` the time from
    which on it must be handed out again. ``removed``: it is not in the log any more; ``dropped``: that was while
    somebody had it. ``hidden``: hand-outs may have been made that nobody saw. ``unsure``: it may be settled,
    ``vaguely``: also if it is seen once more, as it was on its way. ``asked``: unanswered calls that settle it.
    ``released``: whoever has it did not count on having it any more. ``told``: nobody may be told (again) that it
    will not come. ``of_old``: tokens from before a seek.

    ``number`` is the one under which it was seen, ``delivery`` of how many deliveries it is known that they count:
    one less after it was given back ``unseen``, by that token, as the last thing that was said by it. ``giving``: the
    calls for that which have no answer; ``perhaps``: there will be none. ``alone``: nobody could be given it then
    but who joined later. ``recalls``: calls that named it while it was perhaps on its way, and may have made room.
    """

    def __init__(self, offset, key, payload, expires):
        self.offset, self.key, self.payload, self.expires = offset, key, payload, expires
        self.of_old = []
        self.removed = False
        self.begin(NEW)

    def begin(self, state):
        """Be *state*, with nothing known of before."""
        removed = self.removed
        for name in FLAGS:
            setattr(self, name, False)
        self.removed, self.state = removed, state
        self.delivery, self.tokens, self.asked, self.holder, self.settled_by = 0, [], [], None, None
        self.lease = self.due = self.late = 0.0
        self.said_at = self.extended_at = self.unseen_at = 0    # the step in which something was said of it
        self.number, self.unseen, self.giving, self.alone, self.recalls = 0, None, [], None, []

    def __repr__(self):
        return (f"<{self.offset} key {self.key} {self.state} delivery {self.delivery} tokens {self.tokens} at "
                f"{self.holder and self.holder.name} lease {self.lease} due {self.due}-{self.late}"
                + "".join(f" {name}" for name in FLAGS if getattr(self, name))
                + f" unseen {self.unseen}" * (self.unseen is not None)
                + "".join(f" {ticket.verb} asked" for ticket in self.asked + self.giving) + ">")

    @property
    def unsettled(self):
        return self.state in UNSETTLED

    def give_back(self, due, late):
        """Wait for the next delivery, not before *due* and from *late* on at any time."""
        self.state, self.holder, self.due, self.late = BACK, None, due, late

    def settle(self, state, token=None):
        """Be done with, for good."""
        self.state, self.holder, self.unsure, self.settled_by = state, None, False, token

    def is_held(self, now):
        """Whether somebody may count on having it."""
        return self.state == OUT and self.holder is not None and now < self.lease

    def is_expired(self, now):
        return self.expires is not None and now >= self.expires

    def is_excused(self, now):
        """Whether it need not be delivered, if that is told."""
        return self.removed or self.is_expired(now)


class Ticket:
    """One call that settles or extends: what is asked, and of each delivery whether it must be accepted.

    ``vague``: it names what was delivered, and the server may know of more deliveries than anybody has seen.
    """

    def __init__(self, verb, entries, at, option=None, vague=False):
        self.verb, self.entries, self.at, self.option, self.vague = verb, entries, at, option, vague
        self.step = 0
        self.leaver = None      # who leaves with it: that changes more than it names
        self.alone = None       # of Book.alone
        self.must = {}          # offset -> True: must count; False: must be stale; None: either
        self.given = {}         # offset -> how often it had been seen then
