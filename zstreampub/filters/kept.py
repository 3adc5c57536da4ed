"""What rates remember, kept in a directory over restarts.

It is written at most once in SAVE_S, by whichever call comes next, and at the end: in one transaction, on disk when
it is done. So a crash can only take back the newest numbers: then one message too many of a topic or key may pass a
``min_period``, never one too few; and ``every`` counts on from what was written.
"""

import logging
import os
from hashlib import blake2b
from time import monotonic

import msgpack

from ..checks import within
from ..clock import now_us
from ..disk.directory import lock_directory, sync_directory
from ..disk.environment import Environment, Layout
from ..errors import InvalidOption, StoreCorrupt, StoreError
from ..threads.waits import allocate_lock

SAVE_S = 1.0

logger = logging.getLogger(__name__)

_MAX_BYTES = 256 << 20      # 40,000 groups at their largest need a tenth of that
_DURABILITIES = ("sync", "relaxed")
_VERSION = b"1"
_LAYOUT = Layout(("meta", "numbers"),
                 "holds an LMDB environment that is not the memory of a filter chain. Name another directory.",
                 "Free space on the disk.")


class Kept:
    """Keeps the groups of *rates* in *path*: loads them at once, and writes down those that changed."""

    def __init__(self, path, rates, durability):
        if durability not in _DURABILITIES:
            raise InvalidOption(f"durability is {' or '.join(_DURABILITIES)}, not {durability!r:.60}.",
                                option="durability")
        path = os.path.abspath(path)
        self._rates = [(msgpack.packb((rate.name, number)), rate) for number, rate in enumerate(rates)]
        self._writing = allocate_lock()
        self._saved_at = monotonic()
        self._lock = lock_directory(path)
        try:
            self._environment = Environment(path, _LAYOUT, _MAX_BYTES, durability)
            try:
                self._load(path)
                sync_directory(path)
            except BaseException:
                self._environment.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def save_soon(self):
        """Write down what changed, unless that was done within SAVE_S."""
        if monotonic() - self._saved_at >= SAVE_S:
            self._save()

    def close(self):
        """Write down what changed, and give the directory free."""
        try:
            self._save()
        finally:
            self._environment.close()
            os.close(self._lock)

    def _load(self, path):
        names, others = {name for name, _ in self._rates}, []
        try:
            known = []
            for key, record in self._environment.write(_read):
                name, *facts = msgpack.unpackb(record)
                if name in names:
                    known.append((name, *facts))
                else:
                    others.append(key)
            known.sort(key=lambda facts: facts[1])      # what was used longest ago is the first to be forgotten
            for name, rate in self._rates:
                rate.groups.update({(topic, key): within("number", number, None, -1 << 63, 1 << 63)
                                    for one, _, topic, key, number in known if one == name})
                rate.changed = set()
        except (ValueError, TypeError, InvalidOption) as error:
            raise StoreCorrupt(f"{path} holds a record that cannot be read ({error}). Remove the directory: what the "
                               "filters remember begins anew then.", path=path) from error
        self._put([(key, None) for key in others])      # of filters that are no more

    def _save(self):
        with self._writing:
            self._saved_at = monotonic()
            changed = [rate.changed for _, rate in self._rates]
            if not any(changed):
                return
            records = [record for name, rate in self._rates for record in _records(name, rate)]
            for _, rate in self._rates:
                rate.changed = set()
            try:
                self._put(records)
            except StoreError as error:     # it filters all the same, and writes them with the next
                for groups, (_, rate) in zip(changed, self._rates):
                    rate.changed |= groups
                logger.warning("what filters remember could not be written: %s", error)

    def _put(self, records):
        def write(txn, db):
            for key, record in records:
                if record is None:
                    txn.delete(key, db=db.numbers)
                else:
                    txn.put(key, record, db=db.numbers)

        if records:
            self._environment.write(write)


def _records(name, rate):
    """Return ``(key, record)`` of what changed; the record is None if the group was forgotten."""
    used_us, found = now_us(), []
    for group in rate.changed:
        number = rate.groups.get(group)
        key = blake2b(msgpack.packb((name, *group)), digest_size=16).digest()
        found.append((key, None if number is None else msgpack.packb((name, used_us, *group, number))))
    return found


def _read(txn, db):
    """Return all records; mark the environment as ours if it is new."""
    if txn.get(b"state", db=db.meta) is None:
        txn.put(b"state", _VERSION, db=db.meta)
    return [(bytes(key), bytes(value)) for key, value in txn.cursor(db.numbers)]
