"""Message keys: how a store files the newest message of each topic and key."""

from hashlib import blake2b

from ..message import HAS_METADATA


def key_digest(topic_id, key):
    """Return the 64-bit number under which *key* of a topic is filed; text and its UTF-8 bytes are one key."""
    raw = key if isinstance(key, bytes) else key.encode()
    return int.from_bytes(blake2b(raw, digest_size=8, salt=topic_id.to_bytes(16, "big")).digest(), "big")


def newest_of_keys(batch, topic_id):
    """Return a dict of digest -> offset of the newest message with that key in *batch*."""
    if not batch.packed[1] & HAS_METADATA:
        return {}
    column = batch.metadata.get("key", ())
    return {key_digest(topic_id, key): offset for offset, key in enumerate(column, batch.first) if key is not None}
