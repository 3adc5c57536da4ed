"""Message keys: how a store files the newest message of each topic and key."""

from hashlib import blake2b

import msgpack

from ..message import HAS_METADATA, HEADER


def key_digest(topic_id, key):
    """Return the 64-bit number under which *key* of a topic is filed; text and its UTF-8 bytes are one key."""
    raw = key if isinstance(key, bytes) else key.encode()
    return int.from_bytes(blake2b(raw, digest_size=8, salt=topic_id.to_bytes(16, "big")).digest(), "big")


def keys_of(batch):
    """Return the key of each message as bytes, or None for those without; None if none has one.

    Text is given as its UTF-8 bytes, as which it is filed. What is damaged beyond reading has no keys, and so it stays.
    """
    packed = batch.packed
    if not packed[1] & HAS_METADATA:
        return None
    if not batch.is_sound:
        column = batch.metadata.get("key")
        return column and [key.encode() if isinstance(key, str) else key for key in column]
    size = HEADER.unpack_from(packed)[7]
    return msgpack.unpackb(memoryview(packed)[len(packed) - size:], raw=True).get(b"key")


def newest_of_keys(batch, topic_id):
    """Return a dict of digest -> offset of the newest message with that key in *batch*."""
    if not batch.packed[1] & HAS_METADATA:
        return {}
    column = batch.metadata.get("key", ())
    return {key_digest(topic_id, key): offset for offset, key in enumerate(column, batch.first) if key is not None}
