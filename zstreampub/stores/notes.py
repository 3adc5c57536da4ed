"""Notes: changes of the journal that are on disk in a file of their own before LMDB has them.

A commit of LMDB writes half a dozen pages and waits for the disk twice; a note is one write and one wait. So
appends that bring nothing but changes (acknowledgements, hand-outs) are noted, and the next commit of LMDB,
whatever for, takes along what was noted: LMDB alone holds a state that once was, and with the notes the newest.

The file has FILE_BYTES from the start, so that a note waits for nothing else. A note begins a block, so what is
on disk and needed is never written again: u32 checksum, u32 size, u64 number of the first change, u64 end of the
log; then the changes as in the journal. A note counts if its checksum fits the *seed*, which LMDB has, its number is
the one that comes next, and the log reaches as far: so those of an earlier round through the file do not,
nor those beside a log that was restored from a backup. Used by the writer thread, and at the start.
"""

import errno
import os
import struct
from zlib import crc32

from ..disk.directory import sync_directory
from ..errors import StoreError
from .journal import pack_changes, unpack_changes

NAME = "notes"
SEED_BYTES = 16
FILE_BYTES = 1 << 20
BLOCK_BYTES = 4096

_SUM = struct.Struct("<I")
_HEAD = struct.Struct("<IQQ")
_FIRST_BYTE = _SUM.size + _HEAD.size


class Notes:
    """The notes in *directory*. With *used* False none is written; what is there is found all the same.

    ``kept`` are the number of the first change that LMDB does not have, and a list of all from there on.
    """

    def __init__(self, directory, used=True):
        self.kept: tuple = (0, [])
        self._path = os.path.join(directory, NAME)
        self._used = used
        self._seed = b""
        self._file = None
        self._at = 0

    def __bool__(self):
        return bool(self.kept[1])

    @property
    def first(self):
        return self.kept[0]

    def find(self, seed, next, end):
        """Keep what was noted with *seed* on top of a journal that goes on at *next* and a log that does at *end*."""
        self._seed = seed
        self.taken(next)
        for number, changes, at in self._read(end):
            if number != next + len(self.kept[1]):
                break
            self.kept[1].extend(changes)
            self._at = at

    def write(self, number, end, changes):
        """Have *changes*, the first of which has *number*, on disk; return False if LMDB is to take them instead."""
        packed = pack_changes(changes)
        size = _FIRST_BYTE + len(packed)
        if not self._used or self._at + size > FILE_BYTES:
            return False
        head = _HEAD.pack(len(packed), number, end)
        try:
            if self._file is None:
                self._file = self._open()
            _write_all(self._file, b"".join((self._sum(head, packed), head, packed)), self._at)
        except OSError:
            self._used = False      # LMDB will tell what is wrong with the disk
            return False
        self._at += -(-size // BLOCK_BYTES) * BLOCK_BYTES
        self.kept[1].extend(changes)
        return True

    def taken(self, next):
        """Learn that LMDB has all changes below *next*."""
        self.kept = (next, [])
        self._at = 0

    def close(self):
        """Close the file."""
        if self._file is not None:
            os.close(self._file)

    def _sum(self, head, packed):
        return _SUM.pack(crc32(packed, crc32(head, crc32(self._seed))))

    def _open(self):
        """Return the descriptor of the file, which has its size on disk; each write to it waits for the disk."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_DSYNC | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(file).st_size
            if size < FILE_BYTES:
                _write_all(file, bytes(FILE_BYTES - size), size)
                os.fsync(file)
                sync_directory(os.path.dirname(self._path))
        except BaseException:
            os.close(file)
            raise
        return file

    def _read(self, end):
        """Yield ``(number, changes, where the next one begins)`` of each note up to the first that does not count."""
        try:
            with open(self._path, "rb") as file:
                content = file.read(FILE_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self._path} cannot be read: {error}. What was acknowledged last is in it.",
                             path=self._path) from error
        at = 0
        while at + _FIRST_BYTE <= len(content):
            head = content[at + _SUM.size:at + _FIRST_BYTE]
            size, number, noted_end = _HEAD.unpack(head)
            packed = content[at + _FIRST_BYTE:at + _FIRST_BYTE + size]
            if len(packed) < size or noted_end > end or content[at:at + _SUM.size] != self._sum(head, packed):
                return
            at += -(-(_FIRST_BYTE + size) // BLOCK_BYTES) * BLOCK_BYTES
            yield number, [change for _, change in unpack_changes(number, packed)], at


def _write_all(file, content, at):
    if os.pwrite(file, content, at) != len(content):
        raise OSError(errno.ENOSPC, "only a part was written")
