"""What the book of a durable consumer (tests/consumer_book.py) says of deliveries that were given back unseen.

They come again at once, under the number that they had, or under the next where nobody knows whether that call
has counted; their token counts for nothing but saying so again. The member that is named as leaving with that call is
given nothing more.
"""

from tests.consumer_wanted import BACK, FAR, NEW

UNSEEN = "unseen"       # the verb in a Ticket; it is called as a nack


class Unseen:
    """The part of the Book, under whose names it is all said."""

    now: float
    step: int
    workers: list
    come: "int | None"

    @property
    def alone(self):
        """How many have come so far, if nobody is there who may be given something; else None."""
        return self.come if all(worker.leaves for worker in self.workers) else None

    def _again(self, one):
        """Whether it waits for certain, so that what gave it back may be said again (True), or perhaps (None)."""
        waits = one.state == BACK and not (one.hidden or one.unsure or one.is_excused(self.now) or one.asked)
        return True if waits and one.alone is not None and one.alone == self.alone else None

    def _ask_unseen(self, one, ticket):
        one.said_at = one.unseen_at = self.step
        one.giving.append(ticket)
        if one.unsettled and one.state != NEW:
            one.give_back(0.0, FAR)

    def _unseen_answered(self, one, ticket, failed):
        """The answer to one that is in ``giving`` if nobody was given it since."""
        if ticket in one.giving:
            one.giving.remove(ticket)
            one.perhaps = one.perhaps or failed     # it was on its way to another, which failed with it

    def _take_unseen(self, one, ticket, token):
        if one.state != BACK or one.tokens[-1] != token:
            return
        if one.unsure:
            one.perhaps, one.due = True, 0.0    # or an ack that nobody heard of has counted before
            return
        one.unseen, one.alone = token, ticket.alone
        one.delivery, one.perhaps = one.number - 1, False
        one.give_back(0.0, self.now)

    def _may_come_as(self, one):
        """Return the least number under which it may be delivered next."""
        return min(one.delivery + 1, one.number) if one.giving or one.perhaps else one.delivery + 1

    def _check_burial(self, one):
        """It is a dead letter, as it was delivered too often."""
        assert not any(ticket.must[one.offset] and ticket.step == one.said_at for ticket in one.giving), (
            f"given back unseen, but that counted as delivered: {one}")
