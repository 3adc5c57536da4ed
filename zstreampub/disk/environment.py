"""Environment: the databases in one directory, open for writing; with snapshots.py the door to LMDB.

Its traps, and how they are avoided: one thread begins and commits every write transaction; all databases are opened
at the start; the map is never changed while somebody reads; no writemap (a full disk would kill the process).
"""

import os
import types
from typing import NamedTuple

import lmdb

from ..errors import StoreCorrupt, StoreError, StoreFull, StoreVersion
from .snapshots import FULL, MAX_READERS, READ_THREADS, Snapshots, cannot_open, translated

FIRST_MAP_BYTES = 16 << 20
MOST_GROWTH_BYTES = 1 << 30
# Kept for removing: beyond the limit of the map, and on the disk ahead of need, so that
# deleting, which writes new pages before it frees old ones, works when all else is full.
# What has ``reserve`` (the hub's notes of consumers) may use half of it: acknowledging goes on as well.
RESERVE_BYTES = 4 << 20
NOTES_BYTES = RESERVE_BYTES // 2
_PAGE = 4096
_MAGIC = 0xBEEFC0DE


class Layout(NamedTuple):
    """What lives in an environment: its *databases*, and sentences about it.

    *stranger* says, after the directory, that what is found there is something else, and what to do; *relief* what
    makes room when the map cannot grow. *constant* is the database and the key of a record that is always there.
    """

    databases: tuple
    stranger: str
    relief: str
    constant: tuple = ("meta", b"state")


class Environment(Snapshots):
    """The databases of *layout* in one directory (``db``), and two ways to use them: :meth:`read` and :meth:`write`.

    Its map grows up to *max_bytes*; *durability* is ``"sync"``, or ``"relaxed"``: a power cut may take back the last
    commit. ``fresh`` tells that there is nothing in its databases yet.
    """

    def __init__(self, directory, layout, max_bytes, durability):
        super().__init__()
        self._layout = layout
        self._data = os.path.join(directory, "data.mdb")
        self._limit = max_bytes
        fresh = _check_file(self._data)
        self._map_bytes = min(FIRST_MAP_BYTES, self._limit)
        if not fresh:
            self._map_bytes = max(self._map_bytes, min(os.path.getsize(self._data) - RESERVE_BYTES, self._limit))
        try:
            self._env = lmdb.open(directory, map_size=self._map_bytes, max_dbs=len(layout.databases), lib_version=0,
                                  max_readers=MAX_READERS, metasync=durability == "sync", readahead=False)
        except lmdb.Error as error:
            raise cannot_open(directory, error) from error
        try:
            self._check_size(directory)
            self.fresh = fresh or self._env.stat()["entries"] == 0     # its maker died before the first commit
            self.db = self._open_databases(directory)
            self.fresh = self.fresh or self._is_empty()     # or before the second
            self._fit_disk()
            self._env.reader_check()
        except BaseException:
            self._env.close()
            raise
        self._let_read()

    def _check_size(self, directory):
        # LMDB maps the file; a page that is not there would kill the process with SIGBUS.
        info = self._env.info()
        self._map_bytes = info["map_size"]
        needed = (info["last_pgno"] + 1) * _PAGE if info["last_pgno"] > 1 else 0
        if os.path.getsize(self._data) < needed:
            raise StoreCorrupt(f"{self._data} is cut off: it has {os.path.getsize(self._data)} bytes and uses "
                               f"{needed}. Restore it from a backup.", path=directory)

    def _open_databases(self, directory):
        try:
            if not self.fresh:
                return types.SimpleNamespace(**{
                    name: self._env.open_db(name.encode(), create=False) for name in self._layout.databases})
            # All in one transaction: a store has all its databases or none.
            with self._env.begin(write=True) as txn:
                return types.SimpleNamespace(**{
                    name: self._env.open_db(name.encode(), txn=txn) for name in self._layout.databases})
        except lmdb.NotFoundError as error:
            raise StoreVersion(f"{directory} {self._layout.stranger}", path=directory) from error
        except lmdb.Error as error:
            raise cannot_open(directory, error) from error

    def _is_empty(self):
        with self._env.begin() as txn:
            return not any(txn.stat(database)["entries"] for database in vars(self.db).values())

    # --- use ---------------------------------------------------------------------

    def write(self, work, removing=False, reserve=False):
        """Run ``work(txn, db)`` in one transaction and commit it; in the writer thread only.

        *work* may be run again, in a larger map. Raises StoreFull where it cannot grow. With *removing* it
        uses the reserve before it grows, with *reserve* half of the reserve after that.
        """
        turned = False
        while True:
            try:
                return self._write_once(work)
            except lmdb.MapFullError as error:
                if removing:
                    return self._write_removing(work)
                if self._grow():
                    continue
                if reserve:
                    return self._write_in_reserve(work, NOTES_BYTES)
                if turned:
                    raise StoreFull(f"The store has reached {self._map_bytes >> 20} MiB and cannot grow. "
                                    f"{self._layout.relief}", limit=self._limit) from error
                # Pages freed by the last commit may be used again only after one more.
                self._write_in_reserve(self._turn)
                turned = True
            except lmdb.Error as error:
                raise translated(error) from error

    def _write_once(self, work):
        with self._env.begin(write=True, buffers=True) as txn:
            return work(txn, self.db)

    def _write_removing(self, work):
        while True:
            try:
                return self._write_in_reserve(work)
            except StoreFull:
                if not self._grow():
                    raise

    def _write_in_reserve(self, work, reserve_bytes=RESERVE_BYTES):
        self._set_map(self._map_bytes + reserve_bytes)
        try:
            return self._write_once(work)
        except lmdb.Error as error:
            raise translated(error) from error
        finally:
            self._set_map(self._map_bytes)

    def make_room(self, room_bytes):
        """Grow, if need be, until so many bytes are free in the map; tell whether they are. In the writer thread only.

        They may lie in pieces: a large record still may not fit.
        """
        def used_pages(txn, db):
            stats = [self._env.stat(), *(txn.stat(one) for one in vars(db).values())]
            return sum(stat[kind] for stat in stats for kind in ("branch_pages", "leaf_pages", "overflow_pages"))
        needed = self.read(used_pages) * _PAGE + room_bytes
        while needed > self._map_bytes:
            if not self._grow():
                return False
        return True

    def _turn(self, txn, db):
        """Write something, so that there is a commit."""
        name, key = self._layout.constant
        txn.put(key, bytes(txn.get(key, db=getattr(db, name))), db=getattr(db, name))

    def flush(self):
        """Force everything to disk, the meta page of a relaxed store too."""
        self._env.sync(True)

    def info(self):
        """Return ``{"map_bytes", "used_bytes", "file_bytes", "readers"}`` (used: also pages free for reuse)."""
        info = self.read(lambda txn, db: self._env.info())      # it looks into the map, which may just be changing
        return {"map_bytes": self._map_bytes, "used_bytes": (info["last_pgno"] + 1) * _PAGE,
                "file_bytes": os.path.getsize(self._data), "readers": info["num_readers"]}

    # --- size --------------------------------------------------------------------

    def _fit_disk(self):
        """Take no larger map than the disk has room for: appends then meet its end before it is there."""
        used = (self._env.info()["last_pgno"] + 1) * _PAGE
        size = self._map_bytes
        while not self._allocate(size) and size > used:
            size = max(used, size // 2)
        self._map_bytes = size
        self._env.set_mapsize(size)

    def _grow(self):
        """Make room; False at the limit, or if the disk has none."""
        growth = min(self._map_bytes, MOST_GROWTH_BYTES, self._limit - self._map_bytes)
        while growth >= _PAGE:
            if self._allocate(self._map_bytes + growth):
                self._map_bytes += growth
                self._set_map(self._map_bytes)
                return True
            growth //= 2
        return False

    def _allocate(self, map_bytes):
        """Take the disk blocks for the map and the reserve now, while a refusal harms nothing."""
        try:
            with open(self._data, "r+b", buffering=0) as data:
                os.posix_fallocate(data.fileno(), 0, map_bytes + RESERVE_BYTES)
                os.fsync(data.fileno())
        except OSError as error:
            if error.errno in FULL:
                return False
            raise StoreError(f"{self._data} cannot be extended: {error}.") from error
        return True

    def _set_map(self, size):
        tokens = [self._tokens.get() for _ in range(READ_THREADS)]
        try:
            self._env.set_mapsize(size)
        finally:
            for token in tokens:
                self._tokens.put(token)


def _check_file(path):
    """Tell whether there is no store yet; raise StoreCorrupt or StoreVersion at the sight of another file."""
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return True
    with open(path, "rb") as data:
        head = data.read(64)
    # The first page begins with a page header, 16 bytes in LMDB 0.9 and 24 in 1.0; then magic, data version.
    for at in (16, 24):
        if int.from_bytes(head[at:at + 4], "little") == _MAGIC:
            version = int.from_bytes(head[at + 4:at + 8], "little")
            if at == 16 and version == 1:
                return False
            raise StoreVersion(f"{path} was written by another LMDB (data version {version}). zstreampub uses the "
                               "format of LMDB 0.9.", path=path)
    raise StoreCorrupt(f"{path} is no store: it does not begin like one. It was left as it is; restore it from a "
                       "backup, or name another directory.", path=path)
