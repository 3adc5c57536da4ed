"""Batch: what is published, and the one byte format of disk, queue and wire.

A batch is a run of messages of one topic, appended together. Its bytes are made
once, by the publisher; the store fills in ``first`` and ``time`` (:meth:`Batch.seal`)
and nobody opens a payload until a reader wants the value.

The format, version 1 (all integers big-endian)::

    0   u8    version, 1
    1   u8    flags: 1 = lengths column present, 2 = metadata column present; and of the
              metadata: 4 = it has a column "expires", 8 = it has a column "id"
    2   u16   T, bytes of the topic
    4   u32   N, number of messages, at least 1
    8   u64   offset of the first message; 0 until appended
    16  u64   time of the append, microseconds since the epoch; 0 until appended
    24  u32   P, bytes of all payloads
    28  u32   M, bytes of the metadata
    32  u32   CRC-32 of bytes 0 to 7, 24 to 31, and all that follows this header
    36  T     topic, UTF-8
        4*N   length of each payload; absent where all have the same, P / N
        P     the payloads, each one msgpack value, one after the other
        M     msgpack map: "key", "id", "headers", "expires" -> array of N entries (nil: none);
              expires is an integer: microseconds since the epoch

Message *i* of a batch has offset ``first + i``. To change the format: give it the
next version number, read both for one release, write the new one from then on,
freeze a file of the old version under ``tests/data``, and describe it in docs/protocol.rst.
"""

import struct

import msgpack

from .codecs import decode_all
from .columns import HAS_EXPIRY, HAS_IDS, HAS_LENGTHS, HAS_METADATA, HEADER, Columns, checksum, flags_of
from .errors import BatchTooLarge, InvalidBatch, StoreCorrupt
from .payload import (
    METADATA_COLUMNS,
    Alike,
    Undecodable,
    check_metadata,
    content_id,
    pack_payloads,
    sizes_of,
    unpack_column,
    unpack_payload,
)
from .single import REASONS, Message, packed_maps
from .topics import check_topic

VERSION = 1
NEVER_US = 1 << 62

_MICRO = 1_000_000
_pack = msgpack.Packer(use_bin_type=True).pack


class Batch:
    """Some messages of one topic, packed.

    ``packed`` are the bytes of the format above; ``first``, ``count``, ``time_us`` and
    ``topic`` repeat what stands in them. ``next`` is the offset after the last message.
    ``squeezed`` is kept here for compression.py: what follows the header, compressed.
    """

    __slots__ = ("packed", "topic", "count", "first", "time_us", "squeezed", "_map_items", "_soonest")

    def __init__(self, packed, topic, count, first, time_us):
        self.packed = packed
        self.topic = topic
        self.count = count
        self.first = first
        self.time_us = time_us
        self.squeezed = None
        self._map_items = None
        self._soonest = None

    def __len__(self):
        return self.count

    def __repr__(self):
        return f"<Batch [{self.first}, {self.next}) {self.topic} {self.size} bytes>"

    @property
    def next(self):
        return self.first + self.count

    @property
    def size(self):
        """Bytes, header included; what queues and limits count."""
        return len(self.packed)

    @property
    def time(self):
        """Seconds since the epoch, float."""
        return self.time_us / _MICRO

    # --- making ------------------------------------------------------------------

    @classmethod
    def of(cls, topic, payloads, keys=None, ids=None, headers=None, expires=None):
        """Pack *payloads* (a non-empty sequence) for *topic*.

        *keys*, *ids*, *headers* and *expires* (microseconds since the epoch) are lists or tuples
        of the same length, or None.
        Raises InvalidTopic, InvalidPayload.
        """
        check_topic(topic)
        values = pack_payloads(payloads)
        columns = zip(METADATA_COLUMNS, (keys, ids, headers, expires))
        metadata = {name: list(column) if isinstance(column, tuple) else column
                    for name, column in columns if column is not None}
        check_metadata(metadata, len(values))
        return cls.assemble(topic, values, metadata)

    @classmethod
    def parse(cls, packed):
        """Read the header of bytes that were checked before (from the store or our server).

        Raises StoreCorrupt if not even the header makes sense.
        """
        try:
            version, _, topic_bytes, count, first, time_us, *_ = HEADER.unpack_from(packed)
            topic = str(packed[HEADER.size:HEADER.size + topic_bytes], "utf-8")
        except (struct.error, UnicodeDecodeError) as error:
            raise StoreCorrupt(f"These {len(packed)} bytes are no batch: {error}.") from error
        if version != VERSION:
            raise StoreCorrupt(f"A batch of format version {version}; this program reads {VERSION}.", version=version)
        return cls(packed, topic, count, first, time_us)

    @classmethod
    def check(cls, packed, max_message_bytes, max_batch_messages):
        """Read bytes that a stranger sent, without opening a payload.

        Raises InvalidBatch, InvalidTopic, InvalidPayload (metadata), BatchTooLarge, MessageTooLarge.
        """
        if not isinstance(packed, bytes):
            raise InvalidBatch(f"A batch is bytes, not {type(packed).__name__}.")
        try:
            batch = cls.parse(packed)
            columns = Columns(packed)
        except (StoreCorrupt, InvalidBatch) as error:
            raise InvalidBatch(str(error)) from error
        check_topic(batch.topic)
        if batch.count > max_batch_messages:
            raise BatchTooLarge(f"A batch has at most {max_batch_messages} messages, this one has {batch.count}.",
                                count=batch.count, limit=max_batch_messages)
        columns.check_sizes(batch.count, max_message_bytes)
        if checksum(packed, memoryview(packed)[HEADER.size:]) != columns.checksum:
            raise InvalidBatch("The checksum of the batch does not fit its content.")
        return batch

    @classmethod
    def assemble(cls, topic, values, metadata, first=0, time_us=0, sound=True):
        """Make a batch of payloads that are packed already, a non-empty list or Alike; nothing is checked.

        *sound* False: they come from a batch that does not fit its checksum, so this one is not to fit either.
        """
        name = topic.encode()
        lengths = sizes_of(values)
        flags = 0
        parts = [name]
        if lengths.count(lengths[0]) != len(lengths):
            flags |= HAS_LENGTHS
            parts.append(struct.pack(f">{len(lengths)}I", *lengths))
        parts += (values.joined,) if type(values) is Alike else values
        tail = _pack(metadata) if metadata else b""
        if tail:
            flags |= HAS_METADATA | flags_of(metadata)
            parts.append(tail)
        body = b"".join(parts)
        head = HEADER.pack(VERSION, flags, len(name), len(values), first, time_us, sum(lengths), len(tail), 0)
        crc = checksum(head, body) if sound else ~checksum(head, body) & 0xffffffff
        packed = b"".join((head[:-4], crc.to_bytes(4, "big"), body))
        return cls(packed, topic, len(values), first, time_us)

    def seal(self, first, time_us):
        """Write the offset and the time of the append into the bytes (the store does, once)."""
        head = bytearray(memoryview(self.packed)[:HEADER.size])
        struct.pack_into(">QQ", head, 8, first, time_us)
        self.packed = b"".join((head, memoryview(self.packed)[HEADER.size:]))
        self.first = first
        self.time_us = time_us

    # --- reading -----------------------------------------------------------------

    @property
    def is_sound(self):
        """Whether the bytes are what the publisher packed. Offset and time do not count: the store fills them in."""
        packed = self.packed
        return checksum(packed, memoryview(packed)[HEADER.size:]) == int.from_bytes(packed[32:36], "big")

    def verify(self):
        """Return this batch. Raises StoreCorrupt if it is not sound."""
        if not self.is_sound:
            raise StoreCorrupt(f"The batch at offset {self.first} does not fit its checksum.", offset=self.first,
                               next=self.next)
        return self

    def check_columns(self):
        """Raise StoreCorrupt if the batch is damaged so that nobody can tell where one message ends; open none."""
        return self._columns

    @property
    def payloads(self):
        """The payloads as msgpack values, a list; an :class:`Undecodable` where a value is broken."""
        columns = self._columns
        if self.count == 1 and not columns.flags & HAS_LENGTHS:     # the usual one: all of the column is its payload
            return [unpack_payload(columns.payloads)]
        values = unpack_column(columns.payloads, columns.lengths(self.count))
        if values is None:      # the slow way finds the one bad payload
            return [unpack_payload(raw) for raw in columns.raw_payloads(self.count)]
        return values

    @property
    def raw_payloads(self):
        """The payloads as packed, a list of bytes."""
        return self._columns.raw_payloads(self.count)

    @property
    def _columns(self):
        """Where they lie. Raises StoreCorrupt if the batch is damaged so that nobody can tell."""
        try:
            return Columns(self.packed)
        except InvalidBatch:
            self.verify()
            raise

    @property
    def metadata(self):
        """The metadata columns: dict of ``key``, ``id``, ``headers``, ``expires`` -> list of ``count`` entries.

        There are none in a damaged batch, if they cannot be true: it must hurt nobody who only passes it on.
        """
        columns = self._columns
        if not columns.flags & HAS_METADATA or self.is_sound:
            return columns.metadata()
        try:
            found = columns.metadata()
            check_metadata(found, self.count)
        except Exception:       # msgpack raises ten kinds
            return {}
        return found

    @property
    def has_expiry(self):
        """Whether there is a column of expiries; costs next to nothing."""
        return bool(self.packed[1] & HAS_EXPIRY)

    @property
    def has_ids(self):
        """Whether there is a column of ids; costs next to nothing."""
        return bool(self.packed[1] & HAS_IDS)

    @property
    def expires(self):
        """When each message expires, microseconds since the epoch or None, as a list; None if none ever does."""
        return self.metadata.get("expires") if self.has_expiry else None

    @property
    def soonest_expiry(self):
        """When the first of the messages expires, microseconds since the epoch; looked up once, then kept."""
        if self._soonest is None:
            self._soonest = min((us for us in self.expires or () if us is not None), default=NEVER_US)
        return self._soonest

    def messages(self, decoded=True):
        """Return the messages as a list of :class:`Message`.

        A payload whose header ``content-type`` says how it was written is decoded (see codecs.py) unless *decoded*
        is False: then it is the msgpack value that stock clients get.
        """
        topic, time = self.topic, self.time
        offsets = range(self.first, self.next)
        columns = self.shown_columns()
        if not columns:
            return [Message(topic, offset, time, payload) for offset, payload in zip(offsets, self.payloads)]
        payloads, headers = self.payloads, columns.get("headers")
        if decoded and headers is not None:
            payloads = decode_all(payloads, headers)
        nothing = [None] * self.count
        shown = (columns.get(name, nothing) for name in METADATA_COLUMNS)
        return [Message(topic, offset, time, *fields) for offset, *fields in zip(offsets, payloads, *shown)]

    def maps(self):
        """Return the messages as a list of the maps that stock clients get, nothing decoded but msgpack."""
        return [message.as_map() for message in self.verified_messages(decoded=False)]

    def verified_messages(self, decoded=True):
        """Return what :meth:`messages` does; of a batch that is not sound all payloads are an :class:`Undecodable`."""
        if self.is_sound:
            return self.messages(decoded)
        columns = self._columns
        if self.count > columns.payload_bytes:      # as much may be wrong as the number of messages
            self.verify()
        reason = REASONS["StoreCorrupt"]
        return [Message(self.topic, offset, self.time, Undecodable(raw, reason, "StoreCorrupt"))
                for offset, raw in zip(range(self.first, self.next), columns.raw_payloads(self.count))]

    def shown_columns(self):
        """Return the metadata as readers see it: times in seconds."""
        columns = self.metadata
        if "expires" in columns:
            columns["expires"] = [None if us is None else us / _MICRO for us in columns["expires"]]
        return columns

    def with_content_ids(self):
        """Return this batch with an id for each message that is made of its payload, see :func:`content_id`."""
        raws = self.raw_payloads
        ids = [content_id(raw) for raw in raws]
        return self.assemble(self.topic, raws, {**self.metadata, "id": ids}, self.first, self.time_us)

    @classmethod
    def joined(cls, batches):
        """Return all messages of *batches*, which have one topic, as one batch that is not sealed yet."""
        columns = [(batch.count, batch.metadata) for batch in batches]
        names = {name for _, metadata in columns for name in metadata}
        metadata = {name: [value for count, one in columns for value in one.get(name) or [None] * count]
                    for name in METADATA_COLUMNS if name in names}
        return cls.assemble(batches[0].topic, [raw for batch in batches for raw in batch.raw_payloads], metadata)

    def slice(self, start, stop):
        """Return the messages ``start <= i < stop`` of this batch as a batch of their own."""
        if start == 0 and stop == self.count:
            return self
        values = self.raw_payloads[start:stop]
        metadata = {name: column[start:stop] for name, column in self.metadata.items()}
        return self.assemble(self.topic, values, metadata, self.first + start, self.time_us, self.is_sound)

    def singles(self, places):
        """Return the messages at *places*, each as a batch of its own."""
        raws, columns, sound = self.raw_payloads, self.metadata, self.is_sound
        return [self.assemble(self.topic, [raws[at]], {name: [column[at]] for name, column in columns.items()},
                              self.first + at, self.time_us, sound) for at in places]

    def count_within(self, room, most, at_end=False):
        """Return how many messages at its start (or *at_end*), at most *most*, make a batch of *room* bytes or less."""
        columns = self._columns
        count = columns.count_within(room, self.count, min(most, self.count), at_end)
        if columns.flags & HAS_METADATA:        # it was taken to be spread evenly
            while count and self._end_of(count, at_end).size > room:
                count //= 2
        return count

    def _end_of(self, count, at_end):
        return self.slice(self.count - count, self.count) if at_end else self.slice(0, count)

    def map_items(self):
        """Return each message as the packed map that a stock client gets (made once, then kept)."""
        if self._map_items is None:
            self._map_items = packed_maps(self)
        return self._map_items
