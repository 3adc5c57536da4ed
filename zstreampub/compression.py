"""Compressed batches on the wire between our client and server: zstd, where both have it and the client wants it.

Rules: only on the wire; what is stored, queued and counted is the plain batch. A compressed one is a msgpack ext value
of type 1: the header of the batch as it is, then one zstd frame of the rest, that states its size. So the header can
be filled in, and the rest is compressed once, by the publisher or for the first reader. Nothing is unpacked
beyond the size that was checked before.
"""

import struct

from msgpack import ExtType

from .columns import HEADER
from .errors import InvalidBatch, InvalidOption

ZSTD = "zstd"
EXT_TYPE = 1
MAX_PLAIN_BYTES = 4 << 20       # of what is compressed in one request: unpacking it holds the server's hub for 3 ms

_LEAST_BYTES = 512              # below that there is little to gain
_MOST_BYTES = 1 << 20           # a server compresses no larger batch: it takes 1.5 ms
_WORTH = 0.9                    # of its size at most, or it is sent plain
_LEVEL = 1
_EXT = struct.Struct(">cIb")


class Zstd:
    """Compresses and unpacks, in the one thread that made it. *most_bytes*: larger batches are left plain.

    Raises InvalidOption if there is no library for it.
    """

    def __init__(self, most_bytes=_MOST_BYTES):
        try:
            import zstandard
        except ImportError as error:
            raise InvalidOption("Compression needs the package zstandard: pip install 'zstreampub[compression]'.",
                                option="compression") from error
        self._most_bytes = most_bytes
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()
        self._stated_size = zstandard.frame_content_size
        self._error = zstandard.ZstdError

    def squeezed(self, batch):
        """Return the rest of *batch* after its header, compressed; made once, then kept. Empty: send it plain."""
        if batch.squeezed is None:
            batch.squeezed = self._squeeze(batch.packed)
        return batch.squeezed

    def parts(self, batch):
        """Return the bytes of *batch* as an ext value, in pieces; None if it is to be sent plain."""
        body = self.squeezed(batch)
        return body and (_EXT.pack(b"\xc9", HEADER.size + len(body), EXT_TYPE), batch.packed[:HEADER.size], body)

    def pack(self, packed):
        """Return a packed batch as an ExtType if that is smaller, else as it is."""
        body = self._squeeze(packed)
        return ExtType(EXT_TYPE, packed[:HEADER.size] + body) if body else packed

    def plain_size(self, part):
        """Return how many bytes the ExtType *part* unpacks to, as it says. Raises InvalidBatch."""
        if part.code != EXT_TYPE or len(part.data) <= HEADER.size:
            raise InvalidBatch("An ext value in place of a batch is of type 1: a header, then a zstd frame.")
        try:
            size = self._stated_size(part.data[HEADER.size:])
        except self._error as error:
            raise InvalidBatch(f"A compressed batch has no zstd frame after its header: {error}.") from error
        if size < 0:
            raise InvalidBatch("The zstd frame of a compressed batch states how large its content is.")
        return HEADER.size + size

    def unpack(self, part, most_bytes):
        """Return ``(packed, squeezed)`` of the ExtType *part*. Raises InvalidBatch, also if it is over *most_bytes*."""
        size = self.plain_size(part)
        if size > most_bytes:
            raise InvalidBatch(f"What is compressed has at most {most_bytes} bytes plain here, this has {size}. "
                               "Send it plain, or in parts.", size=size, limit=most_bytes)
        body = part.data[HEADER.size:]
        try:
            plain = self._decompressor.decompress(body, read_across_frames=False, allow_extra_data=False)
        except self._error as error:
            raise InvalidBatch(f"The zstd frame of a compressed batch is broken: {error}.") from error
        return part.data[:HEADER.size] + plain, body

    def _squeeze(self, packed):
        if not _LEAST_BYTES <= len(packed) <= self._most_bytes:
            return b""
        body = self._compressor.compress(memoryview(packed)[HEADER.size:])
        return body if len(body) <= _WORTH * len(packed) else b""


def zstd_if_there(**options):
    """Return a Zstd, or None if there is no library for it."""
    try:
        return Zstd(**options)
    except InvalidOption:
        return None
