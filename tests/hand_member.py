"""Who works for a durable consumer on the stage (tests/hand_consumer.py): members, and fetches."""

from zstreampub.consumers import Handout
from zstreampub.store import Gap


class Worker:
    """A member: what it takes goes into the book. *before* is the worker that it was on an earlier connection."""

    fetches = by_offset = False

    def __init__(self, stage, name, max_in_flight, before=None):
        self.stage, self.name, self.max_in_flight, self.before = stage, name, max_in_flight, before
        self.asked_at = stage.clock.seconds, stage.book.step
        self.overlaps = False   # with the join of another, so that nobody can know which was first
        self.member = None
        self.leaves = False     # that was said

    def begin(self, member):
        self.member = member
        self.stage.workers.append(self)
        self.stage.book.joined(self, member.held, *self.asked_at)
        if self.before in self.stage.workers:
            self.before.leave()

    def take(self):
        """Take one thing, if there is one; return whether there was."""
        self.stage.look_at_log()
        item = self.member.take()
        if isinstance(item, Gap):
            self.stage.book.gap(item.first, item.next, item.why)
        elif isinstance(item, Handout):
            for message in item.batch.messages():
                self.stage.book.handed(self, message, item.delivery, item.token, self._lease_of(message))
        return item is not None

    def _lease_of(self, message):
        """Return until when the server leaves it *message*: that counts from the hand-out, which may be long ago."""
        book, ends = self.stage.book, self.stage.pending[message.offset].due
        ack_wait_s = book.settings["ack_wait_s"]
        assert ends >= self.asked_at[0] + ack_wait_s or book.wanted[message.offset].extended_at, f"{message} {ends}"
        return min(ends, book.now + ack_wait_s)

    def take_all(self):
        taken = False
        while self.take():
            taken = True
        return taken

    def leave(self):
        self.member.close()
        self.end()

    def end(self):
        """Be no worker any more; the member has ended."""
        self.stage.workers.remove(self)
        self.stage.book.left(self)
        self.stage.let_run()

    @property
    def has(self):
        """``(offset, token)`` of what it was given, as far as it knows, and has not settled."""
        return self.stage.held_by(self)


class Fetcher:
    """Fetches once; what it gets it has until its lease is over."""

    fetches = True
    max_in_flight = 1 << 30
    leaves = False

    def __init__(self, stage, name, by_offset):
        self.stage, self.name, self.by_offset = stage, name, by_offset
        self._asked_at, self._life = stage.clock.seconds, stage.book.cursor_life

    def take(self, deliveries):
        self.stage.look_at_log()
        book = self.stage.book
        if self._life != book.cursor_life:
            return      # the consumer has moved while the answer was on its way
        for one in deliveries:
            book.handed(self, one, one.delivery, one.token, self._asked_at + book.settings["ack_wait_s"])
            book.wanted[one.offset].late = book.now + book.settings["ack_wait_s"]

    @property
    def has(self):
        return self.stage.held_by(self)
