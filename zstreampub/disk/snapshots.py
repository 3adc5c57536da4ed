"""Snapshots: reading the databases in one directory, of this process or of another that writes them.

Reads are short, copy out what they return, and drop the transaction object, which holds the reader's slot.
Errors of LMDB are translated here.
"""

import errno
import os
import types

import lmdb
from gevent.monkey import get_original

from ..errors import StoreClosed, StoreCorrupt, StoreError, StoreFull, StoreVersion

MAX_READERS = 512
READ_THREADS = 4
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)

_SimpleQueue = get_original("queue", "SimpleQueue")


class Snapshots:
    """What an environment of LMDB, ``_env``, is read by: the databases ``db`` and :meth:`read`."""

    _env: "lmdb.Environment"
    db: types.SimpleNamespace

    def __init__(self):
        self._closed = False
        # Each reader holds a token; who changes the map or closes takes them all.
        self._tokens = _SimpleQueue()

    def read(self, work, *arguments):
        """Return ``work(txn, db, *arguments)``, run on one snapshot; in a reader thread.

        It is short and returns nothing that points into the map.
        """
        token = self._tokens.get()
        if token is None:
            self._tokens.put(None)
            raise StoreClosed("The store is closed.")
        txn = None
        try:
            txn = self._env.begin(buffers=True)
            return work(txn, self.db, *arguments)
        except lmdb.Error as error:
            raise translated(error) from error
        finally:
            if txn is not None:
                txn.abort()
            del txn
            self._tokens.put(token)

    def reader_check(self):
        """Free the slots of readers whose processes are no more."""
        self._env.reader_check()

    def close(self):
        """Wait for the readers, then close; later reads raise StoreClosed."""
        if self._closed:
            return
        self._closed = True
        for _ in range(READ_THREADS):
            self._tokens.get()
        self._env.close()
        self._tokens.put(None)

    def _let_read(self):
        for _ in range(READ_THREADS):
            self._tokens.put(True)


class ForeignSnapshots(Snapshots):
    """The databases called *names* in *directory*, which another process has open and writes to.

    They must be there. Up to *map_bytes* of them can be read, however they grow: that much of the address space is
    taken now, and no memory. While a snapshot is read, its pages are not used again.
    """

    def __init__(self, directory, names, map_bytes):
        super().__init__()
        map_bytes = max(map_bytes, os.path.getsize(os.path.join(directory, "data.mdb")))
        try:
            self._env = lmdb.open(directory, map_size=map_bytes, max_dbs=len(names), lib_version=0, readonly=True,
                                  create=False, max_readers=MAX_READERS, readahead=False)
        except lmdb.Error as error:
            raise cannot_open(directory, error) from error
        try:
            self.db = types.SimpleNamespace(**{name: self._env.open_db(name.encode(), create=False) for name in names})
            self._env.reader_check()        # of the process that was here before, if it was killed
        except lmdb.Error as error:
            self._env.close()
            raise cannot_open(directory, error) from error
        self._let_read()


def cannot_open(directory, error):
    """Return the StoreError for *error* of LMDB, which has kept the environment in *directory* from being opened."""
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError)):
        return StoreCorrupt(f"{directory} holds no store that can be read ({error}). Restore it from a backup.",
                            path=directory)
    if isinstance(error, lmdb.VersionMismatchError):
        return StoreVersion(f"{directory} was written by another LMDB ({error}).", path=directory)
    return StoreError(f"The store in {directory} cannot be opened: {error}.", path=directory)


def translated(error):
    """Return the StoreError for *error* of LMDB."""
    code = error.args[1] if len(error.args) > 1 else None
    if isinstance(error, (lmdb.DiskError, lmdb.MapFullError)) or code in FULL or "File too large" in str(error):
        return StoreFull(f"The disk is full ({error}). Free some space; storing goes on by itself then.")
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError)):
        return StoreCorrupt(f"The store is damaged ({error}). Restore it from a backup.")
    return StoreError(f"The store cannot go on: {error}. Look at the disk, then start again.")
