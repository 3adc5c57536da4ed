"""Where the columns of a packed batch lie, and whether they can be true (the format stands in message.py).

Nothing here opens a payload.
"""

import struct
from bisect import bisect_right
from itertools import accumulate
from zlib import crc32

import msgpack

from .errors import InvalidBatch
from .payload import check_message_size, check_metadata

HEADER = struct.Struct(">BBHIQQIII")
HAS_LENGTHS = 1
HAS_METADATA = 2
HAS_EXPIRY = 4
HAS_IDS = 8


class Columns:
    """Where the columns of a packed batch lie; raises InvalidBatch if they do not fit the bytes."""

    __slots__ = ("packed", "flags", "lengths_at", "payloads_at", "payload_bytes", "metadata_at", "checksum")

    def __init__(self, packed):
        _, self.flags, topic_bytes, count, _, _, self.payload_bytes, metadata_bytes, self.checksum = \
            HEADER.unpack_from(packed)
        self.packed = memoryview(packed)
        self.lengths_at = HEADER.size + topic_bytes
        self.payloads_at = self.lengths_at + (4 * count if self.flags & HAS_LENGTHS else 0)
        self.metadata_at = self.payloads_at + self.payload_bytes
        if (self.metadata_at + metadata_bytes != len(packed) or count == 0
                or bool(metadata_bytes) != bool(self.flags & HAS_METADATA)
                or self.flags & ~(HAS_LENGTHS | HAS_METADATA | HAS_EXPIRY | HAS_IDS)
                or (self.flags & (HAS_EXPIRY | HAS_IDS) and not metadata_bytes)):
            raise InvalidBatch(f"The columns of the batch do not add up to its {len(packed)} bytes.")

    @property
    def payloads(self):
        return self.packed[self.payloads_at:self.metadata_at]

    def lengths(self, count):
        if self.flags & HAS_LENGTHS:
            return struct.unpack_from(f">{count}I", self.packed, self.lengths_at)
        return (self.payload_bytes // count,) * count

    def raw_payloads(self, count):
        column, at, raws = bytes(self.payloads), 0, []
        for length in self.lengths(count):
            raws.append(column[at:at + length])
            at += length
        return raws

    def metadata(self):
        if not self.flags & HAS_METADATA:
            return {}
        return msgpack.unpackb(self.packed[self.metadata_at:])

    def count_within(self, room, count, most, at_end):
        """What :meth:`Batch.count_within` promises of a batch of *count* messages, if it has no metadata."""
        room -= self.lengths_at
        if room <= 0:
            return 0
        share = -(-(len(self.packed) - self.metadata_at) // count)
        if not self.flags & HAS_LENGTHS:
            return min(most, room // (self.payload_bytes // count + share))
        lengths = self.lengths(count)
        lengths = lengths[:-most - 1:-1] if at_end else lengths[:most]
        return bisect_right(list(accumulate(length + 4 + share for length in lengths)), room)

    def check_sizes(self, count, max_message_bytes):
        if self.flags & HAS_LENGTHS:
            lengths = self.lengths(count)
            total, longest, shortest = sum(lengths), max(lengths), min(lengths)
        else:
            longest = shortest = self.payload_bytes // count
            total = longest * count
        if total != self.payload_bytes or shortest == 0:
            raise InvalidBatch("The lengths of the payloads do not add up, or a payload has no bytes.")
        check_message_size(longest, max_message_bytes)
        if self.flags & HAS_METADATA:
            try:
                metadata = self.metadata()
            except Exception as error:      # msgpack raises ten kinds
                raise InvalidBatch(f"The metadata of the batch is no msgpack map: {error}.") from error
            check_metadata(metadata, count)
            if self.flags & (HAS_EXPIRY | HAS_IDS) != flags_of(metadata):
                raise InvalidBatch("The flags of the batch do not say which columns its metadata has.")


def flags_of(metadata):
    return (HAS_EXPIRY if "expires" in metadata else 0) | (HAS_IDS if "id" in metadata else 0)


def checksum(head, body):
    """Return the CRC-32 of what the publisher has written: all but what the store fills in."""
    return crc32(body, crc32(head[24:32], crc32(head[:8])))
