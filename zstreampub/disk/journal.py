"""Journal: what was committed last, in a small file beside LMDB's that is overwritten from its start again and again.

A commit of LMDB writes half a dozen pages and waits for the disk twice; a record here is one write and one wait, of
blocks that are there already. Now and then LMDB takes what the journal has, in any commit of its own, and the next
record is written at the start. A record that is not taken, as there is no room or the disk refuses it, is for LMDB too.

LMDB says which records count: it keeps the *ground*, random bytes that are drawn anew in each commit that takes what
is in the journal, and records belong to the ground that they were written on. So those of earlier rounds through the
file do not count, nor those beside an LMDB that was restored from a backup, nor those of a copy that went its own way.

Format 1 (integers little-endian), a file of FILE_BYTES, zeros at first::

    0   u32   CRC-32 of all that follows in the record, begun with that of the record before it (the first: with FORMAT)
    4   u32   length of the payload
    8         ground, 8 bytes
    16        payload

A record begins where the one before it ends or at the next block of BLOCK_BYTES; the first, at 0. The first one that
does not fit ends what counts: it was not finished, and so never answered, or it is an older one. As each checksum goes
on from the last, what once came after a record that is lost does not count after another one in its place.

To change the format: give it the next FORMAT, so that neither is taken for the other, read the old one where nothing
of the new one counts, and raise the formats of the stores that have a journal, so that older programs refuse them.
"""

import errno
import os
import struct
from zlib import crc32

from ..errors import StoreError
from .directory import sync_directory

FORMAT = 1
FILE_BYTES = 1 << 20
BLOCK_BYTES = 4096
GROUND_BYTES = 8

_HEAD = struct.Struct(f"<II{GROUND_BYTES}s")
_SUM_BYTES = 4


def new_ground():
    """Return what LMDB is to keep from the commit on that takes what is in the journal."""
    return os.urandom(GROUND_BYTES)


class Journal:
    """The file *name* in *directory*, made when the first record comes. For one thread at a time.

    With *synced* a record is on disk when :meth:`append` returns, and begins a block: what was answered is in no
    block that is ever written again before LMDB has it. Without, the system writes it when it gets to it.
    """

    def __init__(self, directory, name, synced=True):
        self._path = os.path.join(directory, name)
        self._synced = synced
        self._file = None
        self._ground, self._at, self._sum = b"", 0, FORMAT     # :meth:`replay` or :meth:`restart` comes first

    def replay(self, ground):
        """Return the payloads of the records on *ground*, as a list, and go on behind them. Raises StoreError."""
        self.restart(ground)
        content = self._read()
        payloads: list = []
        while self._take(content, self._at, payloads) or self._take(content, _next_block(self._at), payloads):
            pass
        self._at = self._begin(self._at)
        return payloads

    def append(self, payload):
        """Keep *payload*; tell whether there was room and the disk took it. If not, LMDB is to have it."""
        record = _HEAD.pack(0, len(payload), self._ground)[_SUM_BYTES:] + payload
        checksum = crc32(record, self._sum)
        end = self._at + _SUM_BYTES + len(record)
        if end > FILE_BYTES:
            return False
        try:
            if self._file is None:
                self._file = self._open()
            _write_all(self._file, checksum.to_bytes(_SUM_BYTES, "little") + record, self._at)
        except OSError:     # LMDB will tell if there is something wrong with the disk
            return False
        self._at, self._sum = self._begin(end), checksum
        return True

    @property
    def is_empty(self):
        return self._at == 0

    def restart(self, ground):
        """Go on at the start: LMDB has all that was kept, and *ground*."""
        self._ground, self._at, self._sum = ground, 0, FORMAT

    def close(self):
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self, end):
        """Return where the next record begins if the last one ends at *end*."""
        return _next_block(end) if self._synced else end

    def _take(self, content, at, payloads):
        """Add to *payloads* that of the record at *at*, if it counts, and step behind it; tell whether it does."""
        begin = at + _HEAD.size
        if begin > len(content):
            return False
        checksum, length, ground = _HEAD.unpack_from(content, at)
        end = begin + length
        if ground != self._ground or end > len(content) or checksum != crc32(content[at + _SUM_BYTES:end], self._sum):
            return False
        payloads.append(content[begin:end])
        self._at, self._sum = end, checksum
        return True

    def _read(self):
        try:
            with open(self._path, "rb") as file:
                if self._synced:        # a process that was killed, or did not sync, may have left it to the system
                    os.fsync(file.fileno())
                return file.read(FILE_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError(f"{self._path} cannot be read: {error.strerror}. What was written last is in it. "
                             "Give the process permission, or restore the store from a backup.",
                             path=self._path) from error

    def _open(self):
        """Return the descriptor of the file, which has its size and its name on disk."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_DSYNC if self._synced else 0)
        file = os.open(self._path, flags, 0o644)
        try:
            size = os.fstat(file).st_size
            if size < FILE_BYTES:       # written and not merely reserved: else the first record there costs two syncs
                _write_all(file, bytes(FILE_BYTES - size), size)
            os.fsync(file)
            sync_directory(os.path.dirname(self._path))
        except BaseException:
            os.close(file)
            raise
        return file


def _next_block(at):
    return -(-at // BLOCK_BYTES) * BLOCK_BYTES


def _write_all(file, content, at):
    if os.pwrite(file, content, at) != len(content):
        raise OSError(errno.ENOSPC, "only a part was written")
