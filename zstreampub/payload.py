"""Payloads, and what goes with them: from values to msgpack bytes and back, with the limits that both keep.

What is packed here can be read by every zerorpc reader; what a stranger packed may turn
out not to be a value at all, and is that message's trouble and no other's.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate

import msgpack

from .errors import InvalidPayload, MessageTooLarge

METADATA_COLUMNS = ("key", "id", "headers", "expires")
MAX_KEY_BYTES = 255
MAX_HEADERS = 64
MAX_EXPIRES_US = (1 << 53) - 1      # in the year 2255; every reader can hold it

# msgpack: how many bytes the head of bytes or text has, by its first.
_BYTES = {0xc4: 2, 0xc5: 3, 0xc6: 5}
_HEADS = {**_BYTES, 0xd9: 2, 0xda: 3, 0xdb: 5, **dict.fromkeys(range(0xa0, 0xc0), 1)}
_SIMPLE = frozenset((bytes, str, int, float, bool, type(None)))
_ALIKE = frozenset((bytes,)), frozenset((str,))
_ENVELOPE = b"\x91" * 32    # a payload travels inside lists and maps; a reader refuses the frame if it is too deep then
_pack = msgpack.Packer(use_bin_type=True).pack


class Undecodable:
    """Stands where a payload should be that cannot be read.

    ``raw`` has its bytes, ``reason`` says what is wrong with them, and ``error`` is ``InvalidPayload``, or
    ``StoreCorrupt`` if they are not what was published.
    """

    __slots__ = ("raw", "reason", "error")

    def __init__(self, raw, reason, error="InvalidPayload"):
        self.raw = raw
        self.reason = reason
        self.error = error

    def __repr__(self):
        return f"<Undecodable payload of {len(self.raw)} bytes: {self.reason}>"


def pack_payload(value):
    """Return *value* as msgpack bytes that every zerorpc reader can decode.

    Raises InvalidPayload: a type that msgpack has not, an integer outside
    [-2**63, 2**64), text that is not UTF-8, more than 990 levels, or a map key that
    is neither text nor bytes (stock readers drop such an item without a word).
    """
    try:
        packed = _pack(value)
        if type(value) not in _SIMPLE:
            msgpack.unpackb(_ENVELOPE + packed)
    except Exception as error:      # TypeError, OverflowError, UnicodeError, ValueError, RecursionError
        raise InvalidPayload(f"The payload cannot be carried as msgpack: {error}. "
                             "Send text, bytes, numbers, lists, and maps with text keys.") from error
    return packed


class Alike(Sequence):
    """Packed payloads of one size, as one memoryview, *joined*. It is read as the list of them is."""

    __slots__ = ("joined", "size")

    def __init__(self, joined, size):
        self.joined = joined
        self.size = size

    def __len__(self):
        return len(self.joined) // self.size

    def __iter__(self):
        return (bytes(self.joined[at:at + self.size]) for at in range(0, len(self.joined), self.size))

    def __getitem__(self, at):
        places = range(0, len(self.joined), self.size)[at]
        if isinstance(at, slice):
            return Alike(self.joined[places.start:places.stop], self.size)      # a step is for nobody
        return bytes(self.joined[places:places + self.size])


def sizes_of(values):
    """Return the sizes of packed payloads, a list."""
    return [values.size] * len(values) if type(values) is Alike else list(map(len, values))


def pack_payloads(values):
    """Return :func:`pack_payload` of each, as a list or Alike; plain values, the usual case, go the short way."""
    kinds = set(map(type, values))
    if kinds <= _SIMPLE:
        try:
            may_be_alike = kinds in _ALIKE and len(values[0]) == len(values[-1])     # the ends tell most
            alike = _pack_alike(list(values)) if may_be_alike else None
            return alike or list(map(_pack, values))
        except Exception:       # the long way below says which value and why
            pass
    return [pack_payload(value) for value in values]


def _pack_alike(values):
    """Return *values*, all bytes or all text, packed at once, if they turn out to be of one size packed."""
    column = memoryview(_pack(values))
    column = column[1 if len(values) < 16 else 3 if len(values) < 1 << 16 else 5:]     # the head of the list
    size, rest = divmod(len(column), len(values))
    return Alike(column, size) if not rest and _are_alike(column, [size] * len(values)) else None


def unpack_column(column, lengths):
    """Return the values of *column*, or None unless each has exactly its length: a broken one may eat of the next."""
    try:
        if _are_alike(column, lengths):
            if column[0] in _BYTES:     # without a copy of the column, which may be a megabyte
                return list(_alike(_HEADS[column[0]], lengths[0], len(lengths)).unpack(column))
            return msgpack.unpackb(b"".join((b"\xdd", len(lengths).to_bytes(4, "big"), column)))
        values, ends, unpacker = [], [], msgpack.Unpacker(max_buffer_size=len(column))
        unpacker.feed(column)
        for value in unpacker:
            values.append(value)
            ends.append(unpacker.tell())
    except Exception:       # msgpack raises ten kinds
        return None
    return values if ends == list(accumulate(lengths)) else None


def _are_alike(column, lengths):
    """Whether all values of *column* are text or bytes of one size, so that each is known to end where it should."""
    size, count = lengths[0], len(lengths)
    head = _HEADS.get(column[0])
    if head is None or lengths.count(size) != count or head + _stated(column, head) != size:
        return False
    return all(column[at::size].tobytes() == bytes((column[at],)) * count for at in range(head))


def _stated(column, head):
    """Return the size that the *head* bytes at the start of text or bytes state."""
    return column[0] & 31 if head == 1 else int.from_bytes(column[1:head], "big")


@lru_cache(8)       # one of 65,536 values takes two megabytes
def _alike(head, size, count):
    """Return the Struct of *count* values of *size* bytes, without their heads."""
    return struct.Struct(f"{head}x{size - head}s" * count)


def unpack_payload(raw):
    """Return the value of one packed payload, or an :class:`Undecodable`."""
    try:
        return msgpack.unpackb(raw)
    except Exception as error:      # msgpack raises ten kinds
        return Undecodable(bytes(raw), f"{type(error).__name__}: {error}")


def can_be_carried(raw):
    """Tell whether every reader can read *raw* as one value, also inside what carries it."""
    try:
        msgpack.unpackb(_ENVELOPE + raw)
    except Exception:       # msgpack raises ten kinds
        return False
    return True


def content_id(packed):
    """Return the id of a packed payload under ``unique="content"``: 32 hex digits, the same for the same bytes."""
    return blake2b(packed, digest_size=16).hexdigest()


def check_message_size(size, limit):
    """Raise MessageTooLarge if a packed payload of *size* bytes is over *limit*."""
    if size > limit:
        raise MessageTooLarge(f"A payload has at most {limit} bytes packed, this one has {size}. "
                              "Split it, or raise max_message_bytes on the server.", size=size, limit=limit)


def check_metadata(metadata, count):
    """Raise InvalidPayload unless *metadata* is a dict of known columns, each with *count* valid entries."""
    if not isinstance(metadata, dict) or not set(metadata) <= set(METADATA_COLUMNS):
        raise InvalidPayload(f"The metadata of a batch has the columns {METADATA_COLUMNS} and no other.")
    for name, column in metadata.items():
        if not isinstance(column, list) or len(column) != count:
            raise InvalidPayload(f"The column {name!r} needs {count} entries, one for each message.")
        check = _CHECKS[name]
        for value in column:
            if value is not None:
                check(name, value)


def _check_name(name, value):
    if not isinstance(value, (str, bytes)) or not value:
        raise InvalidPayload(f"A message's {name} is non-empty text or bytes, not {value!r:.40}.")
    try:
        size = len(value if isinstance(value, bytes) else value.encode())
    except UnicodeEncodeError as error:
        raise InvalidPayload(f"A message's {name} is valid UTF-8: {error}.") from error
    if size > MAX_KEY_BYTES:
        raise InvalidPayload(f"A message's {name} has at most {MAX_KEY_BYTES} bytes, this one has {size}.")


def _check_headers(_, headers):
    if not isinstance(headers, dict) or len(headers) > MAX_HEADERS:
        raise InvalidPayload(f"Headers are a map of at most {MAX_HEADERS} entries.")
    for name, value in headers.items():
        if not isinstance(name, str) or type(value) not in _SIMPLE:
            raise InvalidPayload(f"Header {name!r:.40}: names are text; values text, bytes, numbers, booleans or nil.")
    pack_payload(headers)


def _check_expires(_, value):
    if type(value) is not int or not 0 < value <= MAX_EXPIRES_US:
        raise InvalidPayload(f"A message expires at a whole number of microseconds since the epoch, not {value!r:.40}.")


_CHECKS = {"key": _check_name, "id": _check_name, "headers": _check_headers, "expires": _check_expires}
