"""The messages of a bench: each says which publisher made it, as its how-manieth, and when; and what has come of them.

A message that is lost, repeated, changed or out of order is a *fault*, told in one sentence; so is a gap.
"""

import struct
from collections import defaultdict
from time import perf_counter

_HEAD = struct.Struct(">IQd")
LEAST_BYTES = _HEAD.size
_MOST_FAULTS = 5        # the first ones tell what there is to tell


def payloads(publisher, first, count, size, due=0.0):
    """Return *count* payloads of *size* bytes, the messages from number *first* on of a publisher."""
    padding = b"\xaa" * (size - _HEAD.size)
    return [_HEAD.pack(publisher, number, due) + padding for number in range(first, first + count)]


class Ledger:
    """What one reader has got. ``messages`` came, the last of them at ``ended`` (``perf_counter``)."""

    def __init__(self, delays=None):
        self.messages = 0
        self.faults: list = []
        self.ended = 0.0
        self._next = defaultdict(int)
        self._delays = delays

    def take(self, payloads):
        """Take what came together."""
        for one in payloads:
            self._take(one)
        self.messages += len(payloads)
        self.ended = perf_counter()

    def _take(self, payload):
        if not isinstance(payload, bytes) or len(payload) < LEAST_BYTES:
            return self.tell(f"a message came that is none of this bench: {payload!r:.60}")
        publisher, number, due = _HEAD.unpack_from(payload)
        expected = self._next[publisher]
        if number != expected:
            self.tell(f"of publisher {publisher}, message {number} came where {expected} belongs")
        self._next[publisher] = number + 1
        if due and self._delays is not None:
            self._delays.add(perf_counter() - due)
        return None

    def gap(self, gap):
        """Take what a stream tells of messages that will not come."""
        self.tell(f"messages in [{gap['first']}, {gap['next']}) did not come: {gap['why']}")

    def tell(self, fault):
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(fault)

    def close(self, wanted):
        """Note a fault unless *wanted* messages came; return all faults."""
        if self.messages != wanted:
            self.faults.insert(0, f"{self.messages:,} messages came, {wanted:,} were published")
        return self.faults
