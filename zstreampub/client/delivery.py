"""A message as a consumer's member gets it: with what can be said of it."""

from ..message import Message
from .acks import ACK, extend, nack, reject
from .leases import Lease


class Delivery(Message):
    """A message to be settled: acknowledged, given back or rejected. The first of these counts.

    ``delivery`` says which delivery of this message it is, 1 the first. What is said returns a
    future at once; its ``get(timeout=...)`` returns when it is on the server's disk, or raises
    StaleDelivery if the message is not this delivery's any more.
    """

    __slots__ = ("delivery", "lease", "_home", "_said")

    def __init__(self, message, lease, home):
        self.topic = message.topic
        self.offset = message.offset
        self.time = message.time
        self.payload = message.payload
        self.key = message.key
        self.id = message.id
        self.headers = message.headers
        self.expires = message.expires
        self.delivery = lease.delivery
        self.lease = lease
        self._home = home           # a Consumption stays while somebody has a message of it
        self._said = None

    @property
    def token(self):
        """What the server knows the hand-out by."""
        return self.lease.token

    def settle_at(self, home):
        """Have what is said of it go through *home* from now on: a hub's, for another thread."""
        self._home = home

    @property
    def is_settled(self):
        """Whether it was acknowledged, given back or rejected here."""
        return self._said is not None

    def ack(self):
        """Be done with it."""
        return self.say(ACK)

    def nack(self, delay_s=None, reason=None):
        """Give it back: it is delivered again after *delay_s*, None: after the consumer's backoff."""
        return self.say(nack(delay_s, reason))

    def reject(self, reason=None):
        """Make it a dead letter: it is not to be tried again."""
        return self.say(reject(reason))

    def say(self, key):
        """Say *key*, one of those of acks.py that settle it, unless it is settled; return the future of the first."""
        if self._said is None:
            self._said = self._home.settle(key, self)
        return self._said

    def extend(self, seconds):
        """Have *seconds* from now to settle it."""
        return self._home.extend(extend(seconds), self)

    def as_map(self):
        return {**super().as_map(), "delivery": self.delivery, "token": self.token}

    def __repr__(self):
        return f"<Delivery {self.delivery} of {self.offset} {self.topic} {self.payload!r:.60}>"


class _Fetched:
    """Where the deliveries of ``Client.fetch`` say what becomes of them."""

    def __init__(self, acks):
        self._acks = acks

    def settle(self, key, delivery):
        """Say *key* of *delivery*; return the future."""
        return self._acks.add(key, delivery.offset, delivery.offset + 1, delivery.token)

    extend = settle


def fetched(message, delivery, token, acks):
    """Return the Delivery of a *message* that came without a subscription."""
    return Delivery(message, Lease(token, delivery, 0.0, 0.0), _Fetched(acks))
