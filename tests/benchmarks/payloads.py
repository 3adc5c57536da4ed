"""Payloads of 100 bytes that say who sent them and where they belong, and the check that all arrived.

A payload has its *source* (a publisher process), *caller* (one sequence within it) and *number*.
Batches come from a cycle of lists made beforehand, so that a publisher measures publishing and
a subscriber checks a whole batch with one comparison of lists.
"""

import struct
from collections import defaultdict
from functools import cache

BYTES = 100
BATCH = 1000
CYCLE = 64          # different batches of one source
WRAP = CYCLE * BATCH    # numbers of messages in batches start again here
_HEAD = struct.Struct(">IIQ")
_PADDING = bytes(range(256))[:BYTES - _HEAD.size]


def payload(source, caller, number):
    return _HEAD.pack(source, caller, number) + _PADDING


@cache
def cycle(source):
    """Return the payloads of CYCLE batches of *source*, one flat list."""
    return [payload(source, 0, number) for number in range(WRAP)]


class OutOfOrder(Exception):
    """A message was lost, repeated, reordered or changed."""


class Sink:
    """Takes what a subscriber received; raises OutOfOrder at the first message that is not the next one."""

    def __init__(self, sources=()):
        self.messages = 0
        self._cycles = {source: cycle(source) for source in sources}
        self._at = dict.fromkeys(sources, 0)
        self._next = 0
        self._numbers = defaultdict(int)

    def take_run(self, first, payloads):
        """Take *payloads* of one source that came in batches; *first* is the offset of the first."""
        source = _HEAD.unpack_from(payloads[0])[0]
        at = self._at[source]
        stop = at + len(payloads)
        if payloads != self._cycles[source][at:stop] or first < self._next:
            raise OutOfOrder(f"source {source}: not the messages {at} to {stop} of the cycle, at offset {first}")
        self._at[source] = stop % WRAP
        self._next = first + len(payloads)
        self.messages += len(payloads)

    def take_any(self, payloads, wrap=None):
        """Take *payloads* of any sources and callers, each by itself; numbers start again at *wrap*."""
        numbers = self._numbers
        for one in payloads:
            source, caller, number = _HEAD.unpack_from(one)
            expected = numbers[source, caller]
            if number != expected or len(one) != BYTES:
                raise OutOfOrder(f"source {source}, caller {caller}: {number} came where {expected} belongs")
            numbers[source, caller] = 0 if number + 1 == wrap else number + 1
        self.messages += len(payloads)
