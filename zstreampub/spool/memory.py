"""Memory: what the filter before a store remembers, kept in the same transaction as what has passed it.

Records of a few bytes by the hundred or thousand, of which each transaction changes some: too many for marks. They are
in LMDB only, under ``f``, 8 bytes for the name of their owner, and their key.
"""

from hashlib import blake2b

from ..errors import InvalidOption

MAX_KEY_BYTES = 64
MAX_RECORD_BYTES = 2 << 10

_MEMORY = b"f"


def prefix_of(name):
    """Return what the keys of the owner *name* begin with. Raises InvalidOption."""
    if not isinstance(name, str) or not name:
        raise InvalidOption(f"A memory's name is non-empty text, not {name!r:.60}.", option="memory")
    return _MEMORY + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def check_memory(memory):
    """Return *memory*, ``(name, changes)`` or None, as a map of keys in LMDB. Raises InvalidOption."""
    if memory is None:
        return {}
    try:
        name, changes = memory
        changes = dict(changes)
    except (TypeError, ValueError):
        raise InvalidOption(f"memory is a pair (name, changes), not {memory!r:.60}.", option="memory") from None
    prefix = prefix_of(name)
    for key, record in changes.items():
        if not (_is_bytes(key, 1, MAX_KEY_BYTES) and (record is None or _is_bytes(record, 0, MAX_RECORD_BYTES))):
            raise InvalidOption(f"A memory has keys of 1 to {MAX_KEY_BYTES} bytes and records of at most "
                                f"{MAX_RECORD_BYTES} bytes, or None; not {key!r:.80}.", option="memory")
    return {prefix + key: record for key, record in changes.items()}


def _is_bytes(value, least, most):
    return isinstance(value, bytes) and least <= len(value) <= most


def read_memory(txn, database, prefix):
    """Return what is under *prefix*, key -> record."""
    cursor, found = txn.cursor(database), {}
    if cursor.set_range(prefix):
        for key, record in cursor:
            if key[:len(prefix)] != prefix:
                break
            found[bytes(key[len(prefix):])] = bytes(record)
    return found


def write_memory(txn, database, changes):
    """Write *changes*, of which None removes."""
    for key, record in changes.items():
        if record is None:
            txn.delete(key, db=database)
        else:
            txn.put(key, record, db=database)
