"""Payloads that say who sent them and where they belong, and the checks that all arrived.

A payload has its *source* (a publisher process), *caller* (one sequence within it) and *number*, or the time when
it was due. Batches come from a cycle of lists made beforehand, so that a publisher measures publishing and a
subscriber checks a whole batch with one comparison of lists.
"""

import struct
from collections import defaultdict
from functools import cache
from time import perf_counter

BYTES = 100
BATCH = 1000
CYCLE = 64          # different batches of one source
WRAP = CYCLE * BATCH    # numbers of messages in batches start again here
_HEAD = struct.Struct(">IIQ")
_DUE = struct.Struct(">Qd")
_PADDING = bytes(range(256)) * 5


def payload(source, caller, number, size=BYTES):
    return _HEAD.pack(source, caller, number) + _PADDING[:size - _HEAD.size]


def due_payload(number, due):
    """Return the payload of a message of a steady rate that is *due* then (``perf_counter``)."""
    return _DUE.pack(number, due).ljust(BYTES)


@cache
def cycle(source, size=BYTES):
    """Return the payloads of CYCLE batches of *source*, one flat list."""
    return [payload(source, 0, number, size) for number in range(WRAP)]


def batch_of(source, turn, size=BYTES, length=BATCH):
    """Return the payloads of the batch number *turn* of *source*; *length* is a divisor of WRAP."""
    at = turn * length % WRAP
    return cycle(source, size)[at:at + length]


def slice_of(source, first, count, size=BYTES):
    """Return the payloads of *count* messages of *source* that were published in batches, from number *first*."""
    at = first % WRAP
    found = cycle(source, size)[at:at + count]
    return found + slice_of(source, 0, count - len(found), size) if len(found) < count else found


class OutOfOrder(Exception):
    """A message was lost, repeated, reordered or changed."""


class Sink:
    """Takes what a subscriber received; raises OutOfOrder at the first message that is not the next one."""

    def __init__(self, sources=(), size=BYTES):
        self.messages = 0
        self._cycles = {source: cycle(source, size) for source in sources}
        self._at = dict.fromkeys(sources, 0)
        self._next = 0
        self._numbers = defaultdict(int)

    def take_run(self, first, payloads):
        """Take *payloads* of one source that came in batches; *first* is the offset of the first."""
        source = _HEAD.unpack_from(payloads[0])[0]
        at = self._at[source]
        room = WRAP - at
        stop = at + len(payloads)
        if payloads[:room] != self._cycles[source][at:stop] or first < self._next:
            raise OutOfOrder(f"source {source}: not the messages {at} to {stop} of the cycle, at offset {first}")
        self._at[source] = min(stop, WRAP) % WRAP
        self._next = first + min(len(payloads), room)
        self.messages += min(len(payloads), room)
        if len(payloads) > room:
            self.take_run(self._next, payloads[room:])

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


# What a subscriber does with what comes, whatever peer it is at: ``take(payloads)`` some, ``take_one(payload)``
# where they come one by one, until ``messages`` of them are there; ``result()`` is what is known then.


class Runs:
    """Batches of source 0, of *size* bytes each."""

    def __init__(self, size=BYTES):
        self._sink = Sink([0], size)
        self._gathered: list = []

    @property
    def messages(self):
        return self._sink.messages + len(self._gathered)

    def take(self, payloads):
        self._sink.take_run(self._sink.messages, payloads)

    def take_one(self, payload):
        """One by one they are checked when a batch of them is there."""
        self._gathered.append(payload)
        if len(self._gathered) == BATCH:
            gathered, self._gathered = self._gathered, []
            self.take(gathered)

    def result(self):
        return {}


class Singles:
    """Messages of any source and caller, in the order of each."""

    def __init__(self):
        self._sink = Sink()

    @property
    def messages(self):
        return self._sink.messages

    def take(self, payloads):
        self._sink.take_any(payloads)

    def take_one(self, payload):
        self._sink.take_any((payload,))

    def result(self):
        return {}


class Dues:
    """Messages that were due at a time; knows how late each one came."""

    def __init__(self):
        self.delays: list = []

    @property
    def messages(self):
        return len(self.delays)

    def take(self, payloads):
        for one in payloads:
            self.take_one(one)

    def take_one(self, payload):
        now = perf_counter()
        number, due = _DUE.unpack_from(payload)
        if number != len(self.delays):
            raise OutOfOrder(f"message {number} came where {len(self.delays)} belongs")
        self.delays.append(now - due)

    def result(self):
        return {"delays": self.delays}


def finished(sinks, began, messages):
    """Return the result of an actor whose *sinks* are to have *messages* each."""
    ended = perf_counter()
    for sink in sinks:
        if sink.messages != messages:
            raise OutOfOrder(f"{sink.messages} messages came, {messages} were published")
    results = [sink.result() for sink in sinks]
    delays = [delay for one in results for delay in one.get("delays", ())]
    return {"began": began, "ended": ended, **({"delays": delays} if delays else {})}
