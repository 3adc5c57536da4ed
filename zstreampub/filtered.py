"""A subscription with filters: what it does not want is left out before its queue.

A plain subscription, its *source*, brings the messages, from the log or live, with none missing. The sifter takes them
from there in its turns and puts what passes into the queue that the reader takes from. What is left out fills no queue,
makes nobody slow, and is no loss: no gap tells of it, and ``position`` goes past it. The policy has its say where the
wanted messages do not fit; what it leaves in the log waits here, in hand, and the source waits behind it.

Everything here runs on the broker's hub and nothing waits.
"""

from uuid import uuid4

from .policy import Spill
from .store import Gap
from .subscription import Subscription


class _Source(Subscription):
    """Brings the messages for *reader*; it is never slow for the reader's sake, so nothing of it is dropped."""

    def __init__(self, reader, broker, *bounds, **where):
        super().__init__(broker, uuid4().hex, reader.wanted, Spill(), *bounds, **where)
        self._reader = reader

    def offer(self, batch):
        super().offer(batch)
        return self._reader.holds(batch)

    def hold(self, offset, release):
        self._reader.hold(offset, release)


class FilteredSubscription(Subscription):
    """One reader with *sieve*; *sifter* gives it its turns. Else as Subscription.

    ``cursor`` is the next offset that is to be sifted; ``filtered`` counts the messages that were left out.
    ``live`` says whether the policy decides on what does not fit: not while it catches up with the log at first, and
    not while something is in hand.
    """

    def __init__(self, sieve, sifter, broker, id, wanted, policy, max_messages, max_bytes, *,
                 cursor, until=None, block_timeout_s=5.0, name=None, **where):
        super().__init__(broker, id, wanted, policy, max_messages, max_bytes, cursor=cursor, until=until,
                         block_timeout_s=block_timeout_s, name=name)
        limits = broker.settings
        self.headers_only = sieve.headers_only
        self.lined_up = False       # the sifter's
        self.source = _Source(self, broker, limits.queue_messages, limits.queue_bytes, cursor=cursor, until=until,
                              **where)
        self.source.on_ready = self._line_up
        self._sieve = sieve
        self._sifter = sifter
        self._in_hand = None        # the offset at which it is in a batch that is being sifted
        self._left = None           # what the policy left in the log
        self._steps = self._sift()

    # --- the broker's side -------------------------------------------------------------

    @property
    def offered(self):
        return self.source

    def begin(self):
        self.source.begin()
        self._line_up()

    def holds(self, batch):
        """Return whether the publisher of *batch*, which the source was offered, must be held."""
        return (self.policy.holds_publisher and self._joined and not self.ended
                and self.cursor < batch.next and batch.first < self.until)

    def end(self, error=None):
        if self._closed:
            return
        super().end(error)
        self.source.end()
        self._in_hand, self._left, self._steps = None, None, iter(())

    # --- what a policy may do -------------------------------------------------------------

    def fall_behind(self, batch):
        """Keep *batch* in hand until there is room; the source goes on from the log then."""
        self.live = False
        self._left = batch

    # --- the sifter's side -------------------------------------------------------------------

    def sift(self):
        """Go on a step; return whether there is more to do now."""
        return next(self._steps, False)

    def _sift(self):
        """Yield True where others may have a turn, and False where there is nothing to do now."""
        while not self._closed:
            self.live = self._joined = self._joined or self.source.live
            item = self.source.take()
            if item is None:
                self._release_holds(self.cursor)
                if self.source.error is not None:
                    self._end_as_source()
                if self.source.ended or self.queue:
                    self._wake()
                yield False
            elif isinstance(item, Gap):
                self.queue.put_gap(item)
            else:
                yield from self._pass_on(item)

    def _pass_on(self, batch):
        """Put into the queue what passes of *batch*."""
        self._in_hand, passed = batch.first, 0
        for part in self._sieve.parts(self._sifter.opened(batch)):
            if part is None:
                yield True
                continue
            passed += part.count
            end = part.next
            while (part := self._put(part)) is not None:
                self._in_hand = part.first
                self._wake()
                yield False
            if self._closed:
                return
            self._in_hand = end
        self.cursor, self._in_hand = max(self.cursor, batch.next), None
        self.filtered += batch.count - passed
        self._sifter.filtered += batch.count - passed
        self._release_holds(self.cursor)
        if self.queue:
            self._wake()
        yield True

    def _put(self, part):
        """Put *part*, as far as it fits or the policy says; return what has to wait for room, or None."""
        if self.queue.put_if_room(part):
            self.cursor = part.next
            return None
        if self.live:
            self._overflow(part)
            left, self._left = self._left, None
            return left
        taken = self.queue.room_for(part)
        if taken:
            self.force(part.slice(0, taken))
        return part.slice(taken, part.count) if taken < part.count else None

    def _end_as_source(self):
        error = self.source.error
        error.facts["resume"] = self.position
        self.end(error)

    # --- the reader's side -------------------------------------------------------------------

    @property
    def ended(self):
        return self._closed or (self.source.ended and self.source.error is None
                                and not (self._in_hand is not None or self.queue or self._parts))

    @property
    def state(self):
        return super().state if self.source.live or self._closed else "replaying"

    @property
    def is_idle(self):
        return not (self.queue or self._parts)

    @property
    def trims(self):
        return self.source.trims

    @property
    def _next_to_take(self):
        if self._closed:
            return self.cursor
        first = self._parts[0].first if self._parts else self.queue.first
        if first is not None:
            return first
        return self.source.position if self._in_hand is None else self._in_hand

    def _refill(self):
        """There may be room again: go on with what is in hand, but not for every single message of it."""
        if self.queue.is_low(self.queue.max_bytes):
            self._line_up()

    def _line_up(self):
        self._sifter.line_up(self)
