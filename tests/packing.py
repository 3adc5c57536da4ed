"""Batches that a test has changed, with a checksum that fits them again."""

from zlib import crc32

from zstreampub.message import HEADER


def with_checksum(fields, body):
    """Return the bytes of a batch with these header *fields* (the checksum, the last, is made anew) and *body*."""
    fields = list(fields)[:-1]
    head = HEADER.pack(*fields, 0)
    return HEADER.pack(*fields, crc32(body, crc32(head[24:32], crc32(head[:8])))) + body
