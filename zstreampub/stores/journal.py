"""The journal and the records: what the hub keeps in the store for itself, in the transactions of the log."""

from ..errors import StoreCorrupt
from .records import LENGTH, OFFSET


def pack_changes(changes):
    """Return changes with consecutive numbers as bytes that can be joined: u32 length and bytes of each."""
    return b"".join([part for change in changes for part in (LENGTH.pack(len(change)), change)])


def unpack_changes(number, record):
    """Yield ``(number, change)``, the first one has *number*."""
    at = 0
    while at < len(record):
        at += LENGTH.size
        size = int.from_bytes(record[at - LENGTH.size:at], "little")
        at += size
        if at > len(record):
            raise StoreCorrupt(f"Change {number} of the journal is cut off. Restore the store from a backup.")
        yield number, bytes(record[at - size:at])
        number += 1


def read_journal(txn, db):
    """Return what :meth:`Store.journal` promises; in one transaction, as it is asked for once in a life."""
    return [entry for key, record in txn.cursor(db.journal)
            for entry in unpack_changes(OFFSET.unpack(key)[0], record)]


def write_records(txn, db, records):
    kept = [(key, value) for key, value in records.items() if value is not None]
    if kept:
        txn.cursor(db.records).putmulti(kept)
    for key, value in records.items():
        if value is None:
            txn.delete(key, db=db.records)


def read_records(txn, db, prefix, after, most):
    """Return what :meth:`Store.records` promises."""
    found, cursor = [], txn.cursor(db.records)
    start = prefix if after is None else max(prefix, after + b"\0")
    if most > 0 and cursor.set_range(start):
        for key, value in cursor.iternext():
            key = bytes(key)
            if not key.startswith(prefix):
                break
            found.append((key, bytes(value)))
            if len(found) >= most:
                break
    return found
