"""What a member of a consumer was sent and has not handed out yet: messages with their leases, and controls, in order.

Nothing here waits, or talks to a server.
"""

from collections import deque
from operator import length_hint


class Arrived:
    """The batches that came, the first of them opened, and the controls between them."""

    def __init__(self):
        self._parcels = deque()     # (stream, size or None, lease, Batch or control)
        self._batch = self._lease = None        # what is being handed out
        self._messages = iter(())   # the rest of it
        self._at = 0                # the next offset of it
        self._ahead = {}            # offset -> Lease of what another thread has taken

    def __len__(self):
        """Return how many parcels were not opened."""
        return len(self._parcels)

    @property
    def is_empty(self):
        return not (self._parcels or length_hint(self._messages))

    def put(self, parts):
        """Add ``(lease, Batch)``, or ``(None, control)``, of each of *parts*."""
        self._parcels.extend((None, None, lease, content) for lease, content in parts)

    def charge(self, stream, size):
        """Have the credit for *size* bytes of *stream* given back with the parcel that was put last."""
        self._parcels[-1] = stream, size, *self._parcels[-1][2:]

    def next(self, held, now):
        """Return ``(message, lease)``, the next of the open batch that is ours by *held*; None at its end."""
        lease = self._lease
        for message in self._messages:
            offset = message.offset
            self._at = offset + 1
            if held.get(offset) is not lease:
                continue        # delivered again since, or not ours any more
            if now < lease.ends_at:
                return message, lease
            del held[offset]
        self._batch = None
        return None

    def open(self, broken):
        """Open the next parcel, and give its credit back; return the control that it is, None for a batch.

        *broken* are the first offsets of damaged batches.
        """
        stream, size, lease, content = self._parcels.popleft()
        if size is not None:
            stream.give_back(size)
        if lease is None:
            return content
        self._batch, self._lease, self._at = content, lease, content.first
        # What is damaged must not stop the others: each such message comes, and can be rejected.
        self._messages = iter(content.messages() if content.first not in broken else content.verified_messages())
        return None

    def take_ahead(self, offset, lease):
        """Take note that a message goes to another thread, which hands it out later."""
        self._ahead[offset] = lease

    def hand_on(self, offset, lease):
        """Take note that the other thread has handed it out."""
        if self._ahead.get(offset) is lease:
            del self._ahead[offset]

    def leases(self):
        """Yield ``(offset, lease)`` of all messages."""
        yield from self._ahead.items()
        if self._batch is not None:
            yield from ((offset, self._lease) for offset in range(self._at, self._batch.next))
        for _, _, lease, content in self._parcels:
            if lease is not None:
                yield from ((offset, lease) for offset in range(content.first, content.next))

    def clear(self):
        self._parcels.clear()
        self._batch, self._messages = None, iter(())
        self._ahead.clear()
