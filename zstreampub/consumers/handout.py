"""What a member is given: hand-outs of messages, each a :class:`Delivery`, and notices."""

from ..message import Message
from .lease import IN_FLIGHT, pairs, runs_of


class Notice:
    """Something that a member is told: ``fields`` is a control map, ``{"control": "paused", "why": ...}``."""

    __slots__ = ("fields",)

    def __init__(self, **fields):
        self.fields = fields

    def __repr__(self):
        return f"<Notice {self.fields}>"


class Handout:
    """Messages given to a member together: ``batch``, the number of the ``delivery``, the ``token`` for the ack.

    ``deadline_s`` is how long they may take.
    """

    __slots__ = ("batch", "delivery", "token", "deadline_s", "lease", "_consumer")

    def __init__(self, batch, lease, deadline_s, consumer):
        self.batch = batch
        self.delivery = lease.delivery
        self.token = lease.token
        self.deadline_s = deadline_s
        self.lease = lease
        self._consumer = consumer

    def __repr__(self):
        return f"<Handout {self.batch!r} delivery {self.delivery} token {self.token}>"

    @property
    def count(self):
        return self.batch.count

    @property
    def size(self):
        return self.batch.size

    @property
    def ack_wait_s(self):
        return self.deadline_s

    def held_by(self, holder):
        """Return what of it *holder* has still, as a list of Handouts: not settled, nor given to others since."""
        lease, batch = self.lease, self.batch
        if lease.left == lease.size and lease.kind == IN_FLIGHT:
            return [self]
        pending = self._consumer.state.pending
        places = [offset - batch.first for offset in range(batch.first, batch.next)
                  if (now := pending.get(offset)) is not None
                  and now.kind == IN_FLIGHT and now.member is holder and now.token == self.token]
        if len(places) == batch.count:
            return [self]
        return [Handout(batch.slice(start, stop), lease, self.deadline_s, self._consumer)
                for start, stop in pairs(runs_of(places))]

    def messages(self):
        """Return a list of :class:`Delivery`."""
        return [Delivery(message, self, self._consumer) for message in self.batch.verified_messages()]


class Delivery(Message):
    """A message with its ``delivery`` and ``token``, to be settled by one of the verbs. Each waits for the disk."""

    __slots__ = ("delivery", "token", "_consumer")

    def __init__(self, message, handout, consumer):
        super().__init__(message.topic, message.offset, message.time, message.payload, message.key, message.id,
                         message.headers, message.expires)
        self.delivery = handout.delivery
        self.token = handout.token
        self._consumer = consumer

    def ack(self):
        """It is done. Raises StaleDelivery if it was delivered to somebody else since."""
        return self._consumer.home.ack(self._consumer.name, [self._named])

    def nack(self, delay_s=None, reason=None):
        """It is to be delivered again, after *delay_s* (None: as the consumer's backoff says)."""
        return self._consumer.home.nack(self._consumer.name, [self._named], delay_s=delay_s, reason=reason)

    def reject(self, reason=None):
        """It is not to be tried again: it becomes a dead letter."""
        return self._consumer.home.reject(self._consumer.name, [self._named], reason=reason)

    def extend(self, seconds):
        """It needs *seconds* more from now on."""
        return self._consumer.home.extend(self._consumer.name, [self._named], seconds)

    @property
    def _named(self):
        return self.offset, self.token
