"""What the book of a durable consumer (tests/consumer_book.py) says of deliveries that were given back unseen.

They come again at once, under the number that they had, or under the next where nobody knows whether that call
has counted. Whoever gave them back is given nothing more, and its token counts for nothing but saying so again.
"""

from tests.consumer_wanted import BACK, FAR, NEW

UNSEEN = "unseen"       # the verb in a Ticket; it is called as a nack


class Unseen:
    """The part of the Book, under whose names it is all said."""

    now: float
    step: int
    workers: list
    come: "int | None"
    claimed: set        # offsets that joins which are under way ask for

    @property
    def alone(self):
        """How many have come so far, if nobody is there who may be given something; else None."""
        return self.come if all(worker.newest is not None for worker in self.workers) else None

    def _again(self, one):
        """Whether it waits for certain, so that what gave it back may be said again (True), or perhaps (None)."""
        waits = one.state == BACK and not (one.hidden or one.unsure or one.is_excused(self.now) or one.asked)
        return True if waits and one.alone is not None and one.alone == self.alone else None

    def _ask_unseen(self, one, ticket, must):
        is_first = one.unseen is None
        one.said_at = one.unseen_at = self.step
        one.giving.append(ticket)
        if one.keeper is not None and not one.keeper.fetches and is_first:
            one.keeper.leaving.add((ticket, one.offset))
            # Else the server may know of another that has it, and takes that to leave.
            if must and not one.hidden and one.offset not in self.claimed:
                one.keeper.newest = ticket.newest
        if one.unsettled and one.state != NEW:
            one.give_back(0.0, FAR)

    def _unseen_answered(self, one, ticket, stale, failed):
        """The answer to one that is in ``giving`` if nobody was given it since."""
        if ticket in one.giving:
            one.giving.remove(ticket)
            one.perhaps = one.perhaps or failed     # it was on its way to another, which failed with it
        if failed and one.keeper is not None:
            one.keeper.newest = None        # a call that has failed promises nothing
        if stale and one.keeper is not None and not one.keeper.fetches and not ticket.must[one.offset]:
            one.keeper.leaving.discard((ticket, one.offset))

    def _take_unseen(self, one, ticket, token):
        if one.state != BACK or one.tokens[-1] != token:
            return
        if one.unsure:
            one.perhaps = True      # or an ack that nobody heard of has counted before
            return
        one.unseen, one.alone = token, ticket.alone
        one.delivery, one.perhaps = one.number - 1, False
        one.give_back(0.0, self.now)

    def _may_come_as(self, one):
        """Return the least number under which it may be delivered next."""
        return min(one.delivery + 1, one.number) if one.giving or one.perhaps else one.delivery + 1

    def _check_unseen(self, worker, token, one):
        assert worker.newest is None or token <= worker.newest, (
            f"{worker.name} is about to leave, but was given {one} by {token}, after {worker.newest}")

    def _check_burial(self, one):
        """It is a dead letter, as it was delivered too often."""
        assert not any(ticket.must[one.offset] and ticket.step == one.said_at for ticket in one.giving), (
            f"given back unseen, but that counted as delivered: {one}")
