"""What rates remember, kept in a directory over restarts.

It is written at most once in SAVE_S, by whichever call comes next, and at the end: in one transaction, on disk when
it is done. So a crash can only take back the newest numbers: then one message too many of a topic or key may pass a
``min_period``, never one too few; and ``every`` counts on from what was written.
"""

import logging
import os
from time import monotonic

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
    """Keeps *memory* (a Memory) in *path*: loads it at once, and writes down what changed."""

    def __init__(self, path, memory, durability):
        if durability not in _DURABILITIES:
            raise InvalidOption(f"durability is {' or '.join(_DURABILITIES)}, not {durability!r:.60}.",
                                option="durability")
        path = os.path.abspath(path)
        self._memory = memory
        self._unsaved: dict = {}    # what the disk refused
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
        try:
            others = self._memory.restore(self._environment.write(_read))
        except (ValueError, TypeError, InvalidOption) as error:
            raise StoreCorrupt(f"{path} holds a record that cannot be read ({error}). Remove the directory: what the "
                               "filters remember begins anew then.", path=path) from error
        self._put(dict.fromkeys(others))        # of filters that are no more

    def _save(self):
        with self._writing:
            self._saved_at = monotonic()
            self._unsaved |= self._memory.changes()
            try:
                self._put(self._unsaved)
                self._unsaved = {}
            except StoreError as error:     # it filters all the same, and writes them with the next
                logger.warning("what filters remember could not be written: %s", error)

    def _put(self, records):
        def write(txn, db):
            for key, record in records.items():
                if record is None:
                    txn.delete(key, db=db.numbers)
                else:
                    txn.put(key, record, db=db.numbers)

        if records:
            self._environment.write(write)


def _read(txn, db):
    """Return all records; mark the environment as ours if it is new."""
    if txn.get(b"state", db=db.meta) is None:
        txn.put(b"state", _VERSION, db=db.meta)
    return [(bytes(key), bytes(value)) for key, value in txn.cursor(db.numbers)]
