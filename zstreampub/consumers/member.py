"""Member: a subscription that joined a consumer, and what it is given.

To a feed it looks like a subscription. Nothing here waits but ``get``.
"""

from collections import deque

from ..store import Gap
from ..taking import Taking
from .handout import Handout


class MemberQueue:
    """What a member was given and has not taken: bounded by what may be in flight, and by bytes."""

    def __init__(self, max_messages, max_bytes):
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = self.bytes = 0
        self.items = deque()

    def __bool__(self):
        return bool(self.items)


class Member(Taking):
    """One subscription to the messages of *consumer*. Made by ``Broker.subscribe(consumer=...)``.

    ``held`` are ``[[offset, token], ...]`` that it brought along and still holds. ``in_flight`` counts what
    it was given and has not settled. ``is_leaving``: it was said to leave, and is given nothing more.
    ``on_ready()`` is called on the hub whenever there may be something new.
    """

    live = True
    start = None
    dropped = conflated = 0

    def __init__(self, consumer, id, policy, max_in_flight, max_bytes, name=None, member=None):
        super().__init__()
        self.consumer = consumer
        self.id = id
        self.policy = policy
        self.name = name
        self.member = member
        self.max_in_flight = max_in_flight
        self.queue = MemberQueue(max_in_flight, max_bytes)
        self.wanted = consumer.wanted
        self.in_flight = self.delivered = 0
        self.leases = {}            # those under which it has something, as an ordered set
        self.held = []
        self.is_bounded = self.is_leaving = False
        self._closed = False
        self._messages = deque()

    # --- the consumer's side ---------------------------------------------------------------------

    @property
    def room(self):
        """How many messages it may be given now."""
        if self.is_leaving or self.queue.bytes >= self.queue.max_bytes:
            return 0
        return self.max_in_flight - self.in_flight

    @property
    def has_plenty(self):
        """Whether it has nearly all that it may have."""
        return self.in_flight > self.max_in_flight - self.max_in_flight // 8

    @property
    def room_bytes(self):
        return self.queue.max_bytes - self.queue.bytes

    def count(self, lease, many):
        """Learn that *many* more (or fewer) messages of *lease* are with it."""
        self.in_flight += many
        if lease.left:
            self.leases[lease] = None
        else:
            self.leases.pop(lease, None)
        if many < 0 and not self._closed:
            self.consumer.line_up(self)

    def promise(self, batch):
        """Learn that it will be given *batch*."""
        self.queue.bytes += batch.size

    def served(self):
        """Learn that it was promised all that it is given in this turn."""

    def nothing(self):
        """Learn that nothing is there for it now."""

    def give(self, items):
        """Take *items*, which were promised."""
        if self._closed:
            return
        if self.is_leaving:     # what was on its way was taken back
            items = [item for item in items if type(item) is not Handout]
        self.queue.items.extend(items)
        self.queue.messages += sum(item.count for item in items if type(item) is Handout)
        self._wake()

    def leaving(self):
        """Take no more; return ``(batch, token)`` of each Handout that was not taken."""
        self.is_leaving = True
        rest = [(item.batch, item.token) for item in self.queue.items if type(item) is Handout]
        self.forget()
        return rest

    def not_given(self, items):
        """Learn that the promise of *items* is not kept."""
        self.queue.bytes -= sum(item.size for item in items if type(item) is Handout)
        told = [item for item in items if type(item) is not Handout]
        if told:
            self.give(told)

    def tell(self, notice):
        """Take a Notice or a Gap."""
        if not self._closed:
            self.queue.items.append(notice)
            self._wake()

    def forget(self):
        """Drop what was not taken: it is not this member's any more."""
        told = [item for item in self.queue.items if type(item) is not Handout]
        self.queue.items = deque(told)
        self.queue.messages = self.queue.bytes = 0

    def drop(self):
        """Learn that nothing it has is its own any more."""
        self.forget()
        self.leases.clear()
        self.in_flight = 0

    def end(self, error=None):
        """End it; what it has not settled goes to others at once. *error* (or None) is told to the reader."""
        if self._closed:
            return
        self._closed = True
        self.live = False
        if error is not None:
            error.facts.setdefault("resume", self.position)
            self.error = error
        self.forget()
        untold = [item for item in self.queue.items if isinstance(item, Gap)]
        self.queue.items.clear()
        self.consumer.leave(self)
        for gap in untold:
            self.consumer.tell_gap(gap)
        self._wake()

    def _wake(self):
        try:
            self.on_ready()
        except Exception as error:      # the reader's own callback must not tear the delivery to others
            self.consumer.home.report(error)

    # --- the reader's side ---------------------------------------------------------------------------

    @property
    def ended(self):
        """Whether it has ended; what was not taken by then is not this member's any more."""
        return self._closed

    def agreed(self):
        """Return what the greeting says besides what it says to every subscription."""
        return {"consumer": self.consumer.name, "max_in_flight": self.max_in_flight,
                "ack_wait_s": self.consumer.options.ack_wait_s, "held": self.held,
                "paused": self.consumer.paused or False}

    @property
    def position(self):
        """The offset up to which the consumer has handed out."""
        return self.consumer.state.cursor

    @property
    def state(self):
        return "ended" if self._closed else "live"

    def take(self):
        """Return the next Handout, Gap or Notice; None if there is nothing now. Never waits."""
        queue = self.queue
        while queue.items:
            item = queue.items.popleft()
            if type(item) is not Handout:
                return item
            was_full = queue.bytes >= queue.max_bytes
            queue.messages -= item.count
            queue.bytes -= item.size
            if was_full and queue.bytes < queue.max_bytes:
                self.consumer.line_up(self)
            item, *others = item.held_by(self) or [None]
            for other in reversed(others):
                self._put_back(other)
            if item is not None:
                item.lease.taken = True
                self.delivered += item.count
                receipts = self.consumer.home.broker.receipts
                if receipts.watched:
                    receipts.taken(self.id, item.batch)
                return item
        return None

    def _put_back(self, item):
        self.queue.items.appendleft(item)
        self.queue.messages += item.count
        self.queue.bytes += item.size

    def __next__(self):
        """Return the next :class:`Delivery`. Gaps are logged and passed over: take ``get`` to see them."""
        while not self._messages:
            item = self.get()
            if item is None:
                raise StopIteration
            if isinstance(item, Gap):
                self.consumer.log_gap(item)
            elif type(item) is Handout:
                self._messages.extend(item.messages())
        return self._messages.popleft()

    def describe(self):
        """Return what an operator wants to know, as a plain map, with the keys that a subscription has."""
        return {"id": self.id, "name": self.name, "patterns": list(self.wanted.patterns), "state": self.state,
                "policy": self.policy.name, "position": self.position,
                "lag": max(self.consumer.home.end - self.position, 0),
                "queued_messages": self.queue.messages, "queued_bytes": self.queue.bytes,
                "delivered": self.delivered, "dropped": 0, "conflated": 0, "holding": 0,
                "consumer": self.consumer.name, "member": self.member, "in_flight": self.in_flight}

    def describe_member(self):
        """Return how it stands among the members of its consumer."""
        return {"id": self.id, "member": self.member, "name": self.name, "in_flight": self.in_flight,
                "active": self.consumer.is_active(self)}
