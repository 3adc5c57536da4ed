"""Joining a consumer: members, and fetches, which are members for one moment. Waits for the store."""

from uuid import uuid4

from gevent.event import Event

from ..checks import within
from ..errors import InvalidOption, ServerDraining
from .changes import Moved
from .handout import Handout
from .lease import IN_FLIGHT, Lease
from .member import Member
from .options import check_deliveries
from .steering import Steering

_LONGEST_FETCH_S = 86_400.0


class _Policy:
    """What stands where a subscription has its policy."""

    name = "consumer"
    holds_publisher = False


class Joining(Steering):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    def join(self, name, patterns=None, *, start="new", max_in_flight=None, max_bytes=None, member=None,
             subscription_name=None, held=(), **settings):
        """Return a new :class:`~zstreampub.consumers.member.Member` of the consumer *name*, made if need be.

        *held* are ``[[offset, token], ...]`` that the member still works on: what is still its own stays so.
        Raises like :meth:`create`, and UnknownConsumer if *patterns* is None and there is none.
        """
        limits = self.settings
        max_in_flight = within("max_in_flight", max_in_flight, limits.member_in_flight, 1, limits.max_member_in_flight)
        max_bytes = within("max_bytes", max_bytes, limits.queue_bytes, 1, limits.max_queue_bytes)
        if member is not None and not (isinstance(member, str) and len(member) <= 255):
            raise InvalidOption("member is text of at most 255 characters.", option="member")
        held = check_deliveries(() if held is None else held)
        if any(token is None for _, _, token in held):
            raise InvalidOption("held is a list of [offset, token].", option="held")
        consumer = self.find_or_create(name, patterns, start, settings)
        self.prepare(consumer)
        if self.draining:
            raise ServerDraining("The server is shutting down; join on the next one.")
        self.broker.check_admission()
        consumer = self.find(name)      # preparing may have taken a while
        joined = Member(consumer, uuid4().hex, _Policy, max_in_flight, max_bytes, subscription_name, member)
        self.broker.subscriptions[joined.id] = joined
        consumer.used_at = self.clock.now()
        joined.held = self._claim(consumer, joined, held)
        consumer.join(joined)
        if joined.held:
            try:
                self.wait_for_disk()    # or a crash would give to others at once what it has been told is its own
            except BaseException:
                joined.end()
                raise
        return joined

    def _claim(self, consumer, member, held):
        """Give *member* those of *held* whose token is still the newest; return them."""
        state, claimed = consumer.state, []
        due = self.clock.now() + consumer.options.ack_wait_s
        for first, next, token in held:
            found, _, _ = state.find(first, next, token)
            for lease, runs in tuple(found):
                again = Lease(IN_FLIGHT, token, lease.delivery, due, member, lease.error)
                again.taken = True
                for one in zip(runs[::2], runs[1::2]):
                    state.put(again, *one)
                    claimed += [[offset, token] for offset in range(*one)]
                consumer.arm(again)
                consumer.ops.append(Moved(consumer, again, [(lease, runs)]))
        return claimed

    # --- fetching ----------------------------------------------------------------------------------

    def fetch(self, name, count=1, *, timeout_s=0.0, offset=None):
        """Return up to *count* messages as a list of :class:`~zstreampub.consumers.member.Delivery`.

        Waits up to *timeout_s* for the first. They are handed out until they are settled or ``ack_wait_s`` is over.
        *offset*: that very message, if it waits or was not handed out yet.
        """
        found = self.fetch_handouts(name, count, timeout_s=timeout_s, offset=offset)
        return [delivery for handout in found for delivery in handout.messages()]

    def fetch_handouts(self, name, count=1, *, timeout_s=0.0, offset=None):
        """Do what :meth:`fetch` does; return a list of Handouts, nothing decoded."""
        self.broker.check_thread()
        count = within("count", count, None, 1, self.settings.max_member_in_flight)
        timeout_s = within("timeout_s", timeout_s, 0.0, 0, _LONGEST_FETCH_S, float)
        consumer = self.find(name)
        self.prepare(consumer)
        consumer.used_at = self.clock.now()
        taker = Fetch(consumer, 1 if offset is not None else count, self.settings.queue_bytes)
        if offset is not None:
            return self._fetch_one(consumer, taker, within("offset", offset, None, 0, 1 << 53))
        try:
            consumer.serve(taker)
            taker.wait(timeout_s)
        finally:
            taker.ended = True
            consumer.give_up(taker)
        return taker.result()

    def _fetch_one(self, consumer, taker, offset):
        batch = self.store.get(offset)
        if batch is None or batch.topic not in consumer.wanted or consumer.deleted:
            return []
        consumer.hand_out_one(taker, batch)
        taker.close()
        consumer.serve(taker)       # no more than that one: it has no room
        try:
            taker.wait(0)
        finally:
            taker.ended = True
            consumer.give_up(taker)
        return taker.result()


class Fetch:
    """A member for one hand-out; what it gets stays handed out when it is gone."""

    has_plenty = False

    def __init__(self, consumer, count, max_bytes):
        self.consumer = consumer
        self.ended = False
        self.in_flight = 0
        self.room_bytes = max_bytes
        self._count = count
        self._promised = 0
        self._closed = False        # it was served: a second turn would come when it is gone
        self._items = []
        self._done = Event()        # it has been given something, or will not be
        self._impatient = False
        self._error = None

    @property
    def room(self):
        return 0 if self._closed or self.room_bytes <= 0 else self._count - self._promised

    def count(self, lease, many):
        """Learn that *many* more (or fewer) messages of *lease* are with it: it does not matter here."""

    def promise(self, batch):
        self._promised += batch.count
        self.room_bytes -= batch.size

    def served(self):
        self._closed = self._promised > 0

    def close(self):
        """Take nothing more."""
        self._closed = True

    def cancel(self, error=None):
        """Learn that nothing more will come: the consumer is gone, or the server will be, or *error*."""
        if not self._promised:
            self._error = error
            self._done.set()

    def give(self, items):
        handouts = [part for item in items if type(item) is Handout for part in item.held_by(self)]
        if not self.ended:
            self._items += handouts
        for lease in {item.lease: None for item in handouts}:
            lease.member = None
            if self.ended:
                self.consumer.lapse(lease, self.consumer.home.clock.now())
            else:
                lease.taken = True
        self._done.set()

    def tell(self, gap):
        """Take a Gap: it is logged, as a fetch returns messages only."""
        self.consumer.log_gap(gap)

    def not_given(self, items):
        self._done.set()

    def wait(self, timeout_s):
        """Wait until it was given something, or for *timeout_s*; but longer for what is there or promised."""
        if not (self._done.wait(timeout_s) if timeout_s else self._done.is_set()):
            self._impatient = True
            self.consumer.home.touch(self.consumer)
            self._done.wait()

    def nothing(self):
        """Learn that nothing is there for it now."""
        if self._impatient and not self._promised:
            self._done.set()

    def result(self):
        if self._error is not None:
            raise type(self._error)(str(self._error), **self._error.facts)
        return self._items
