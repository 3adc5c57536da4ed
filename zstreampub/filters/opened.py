"""What filters look at: the columns of a batch, or one message in the same form. Each is opened when asked for."""

import copy
from itertools import accumulate

from ..clock import now_us
from ..codecs import written_as
from ..columns import Columns
from ..message import Batch, Message
from ..payload import Undecodable, pack_payload, unpack_column, unpack_payload
from .picked import looked_up, picked

_MICRO = 1_000_000
_MOST_PICKED = 4        # names that are picked out one by one: to decode all costs as much as four
_NOTHING = b"\xc0"      # msgpack: nil


class OpenedBatch:
    """The columns of *batch*; kept for as long as somebody filters it, so that each is decoded once."""

    __slots__ = ("batch", "topic", "count", "time_us", "is_sound", "_columns", "_lengths", "_ends", "_values",
                 "_named", "_metadata")

    def __init__(self, batch):
        self.batch = batch
        self.topic = batch.topic
        self.count = batch.count
        self.time_us = batch.time_us
        self.is_sound = batch.is_sound
        self._columns = Columns(batch.packed) if self.is_sound else None    # what is damaged may have none
        self._lengths = self._ends = self._metadata = None
        self._values = []
        self._named = {}

    @property
    def first(self):
        return self.batch.first

    @property
    def sizes(self):
        """The bytes of each payload, packed."""
        if self._lengths is None:
            self._lengths = self._columns.lengths(self.count)
        return self._lengths

    def metadata(self, name):
        """Return the column ``key``, ``id`` or ``headers``, None if there is none."""
        if self._metadata is None:
            self._metadata = self._columns.metadata()
        return self._metadata.get(name)

    def values(self, stop):
        """Return a list with at least the first *stop* payloads, decoded."""
        start = len(self._values)
        if start < stop:
            self._values += self._decode(start, stop)
        return self._values

    def named(self, name, stop):
        """Return a list with what at least the first *stop* payloads have under *name*, MISSING where it is not."""
        found = self._named.setdefault(name, [])
        start = len(found)
        if start < stop:
            found += self._pick(name, start, stop)
        return found

    def _pick(self, name, start, stop):
        if stop > len(self._values):
            if len(self._named) <= _MOST_PICKED and (found := picked(name, *self._packed(start, stop))) is not None:
                return found
            if start > len(self._values):       # those before it were picked, and may stay packed
                return looked_up(self._decode(start, stop), name)
        return looked_up(self.values(stop)[start:stop], name)

    def _decode(self, start, stop):
        found = unpack_column(*self._packed(start, stop))
        if found is None:       # the slow way finds the one bad payload
            found = [unpack_payload(raw) for raw in self._raw_payloads(start, stop)]
        return found

    def _packed(self, start, stop):
        """Return the bytes of the payloads ``start <= i < stop``, and their lengths."""
        if stop - start == self.count:
            return self._columns.payloads, self.sizes
        ends = self._find_ends()
        return self._columns.payloads[ends[start]:ends[stop]], self.sizes[start:stop]

    def undecoded(self):
        """Return the same without the decoded payloads: who only packs parts of it must not keep them in memory."""
        other = copy.copy(self)
        other._values, other._named = [], {}
        return other

    def part(self, start, stop, with_payloads=True):
        """Return the messages ``start <= i < stop`` as a batch; without payloads each is nil."""
        if with_payloads and stop - start == self.count:
            return self.batch
        if self._metadata is None:
            self._metadata = self._columns.metadata()
        raws = self._raw_payloads(start, stop) if with_payloads else [_NOTHING] * (stop - start)
        metadata = {name: column[start:stop] for name, column in self._metadata.items()}
        return Batch.assemble(self.topic, raws, metadata, self.first + start, self.time_us)

    def _raw_payloads(self, start, stop):
        packed, base, ends = self.batch.packed, self._columns.payloads_at, self._find_ends()
        return [packed[base + ends[at]:base + ends[at + 1]] for at in range(start, stop)]

    def _find_ends(self):
        """Return where each payload begins, and last where they end."""
        if self._ends is None:
            self._ends = [0, *accumulate(self.sizes)]
        return self._ends


class OpenedMessage:
    """One message of a client's, or any value, which is then a payload without topic, key and headers.

    A value came now. The size of bytes is their number, of a message that of its payload as its content type and
    msgpack have it.
    """

    __slots__ = ("_message", "_payload", "topic", "first", "time_us")

    count = 1

    def __init__(self, message):
        if isinstance(message, Message):
            self._message, self._payload = message, message.payload
            self.topic, self.first, self.time_us = message.topic, message.offset, round(message.time * _MICRO)
        else:
            self._message, self._payload = None, message
            self.topic, self.first, self.time_us = None, None, now_us()

    @property
    def sizes(self):
        payload = self._payload
        if isinstance(payload, Undecodable):
            return (len(payload.raw),)
        if self._message is None and isinstance(payload, (bytes, bytearray, memoryview)):
            return (memoryview(payload).nbytes,)
        written = written_as(payload, self._message and self._message.content_type)
        return (len(pack_payload(written)),)

    def metadata(self, name):
        """Return what OpenedBatch does, of one message."""
        value = getattr(self._message, name, None)
        return None if value is None else (value,)

    def values(self, _):
        """Return the payload, in a tuple."""
        return (self._payload,)

    def named(self, name, _):
        """Return what the payload has under *name*, or MISSING, in a list."""
        return looked_up((self._payload,), name)
