"""Which messages are a member's, and until when. Nothing here talks to a server."""

import weakref

_RENEW_BELOW = 0.75     # of the lease: one that has more left is looked at again after half of it
_LEAST_PERIOD_S = 0.05


class Lease:
    """What one hand-out is worth: its token, which delivery of its messages it is, and until when they are ours."""

    __slots__ = ("token", "delivery", "wait_s", "ends_at")

    def __init__(self, token, delivery, wait_s, now):
        self.token = token
        self.delivery = delivery
        self.wait_s = wait_s
        self.ends_at = now + wait_s


class Leases(dict):
    """Offset -> Lease, of all messages that are ours and not settled: handed out, or waiting here for that."""

    def take(self, batch, lease):
        """Take note that the messages of *batch* came with *lease*; an earlier delivery of one of them is void."""
        self.update(dict.fromkeys(range(batch.first, batch.next), lease))

    def release(self, offset, lease):
        """Take note that *lease* does not count any more for the message at *offset*."""
        if self.get(offset) is lease:
            del self[offset]

    def keep(self, pairs):
        """Forget all but those that are among *pairs* of offset and token."""
        kept = {(offset, token) for offset, token in pairs}
        for offset, lease in list(self.items()):
            if (offset, lease.token) not in kept:
                del self[offset]

    def pairs(self):
        """Return ``(offset, token)`` of all."""
        return {(offset, lease.token) for offset, lease in self.items()}

    def ending(self, offsets, now):
        """Return the leases of *offsets* that are to be renewed: Lease -> [(first, next, token)]."""
        found: dict = {}
        for offset in offsets:
            lease = self[offset]
            if lease.ends_at - now < _RENEW_BELOW * lease.wait_s:
                found.setdefault(lease, []).append((offset, offset + 1, lease.token))
        return found


class Renewal:
    """Has *reader* look at its leases every half of *wait_s*, while it lives and its ``renew()`` returns true."""

    def __init__(self, channels, reader, wait_s):
        self.timeout_s = max(wait_s / 2, _LEAST_PERIOD_S)
        self._channels = channels
        self._reader = weakref.ref(reader)
        channels.expire(self)

    def expire(self):
        """It is time."""
        reader = self._reader()
        if reader is not None and reader.renew():
            self._channels.expire(self)

    def stop(self):
        """Never come again."""
        self._channels.deadlines.discard(self)
