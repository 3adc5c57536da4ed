"""Journal: the newest commits of a FifoStore, in a small file that is overwritten from its start again and again.

A commit of LMDB syncs the disk twice; one record here costs one sync, of blocks that are there already. When the file
is full, what it has goes to LMDB in one commit (a checkpoint), and the next record is written at its start.

Format 1 (integers little-endian), the file of JOURNAL_BYTES, zeros at first::

    0   u32   CRC-32 of the store's identity and of all that follows in the record
    4   u32   length of the payload
    8   u64   serial: the number of the commit
    16        payload

The records that count begin at 0 and have the serials that follow on the one in LMDB; the first that has another or
does not fit its checksum is an older one, or one that was not finished, and so was never answered.
"""

import os
import struct
import zlib

from ..disk.directory import sync_directory
from ..errors import StoreError

JOURNAL_BYTES = 1 << 20
MOST_BYTES = 64 << 10           # larger commits are better off in LMDB at once

_HEAD = struct.Struct("<IIQ")
_TAIL = struct.Struct("<IQ")


class Journal:
    """The file in *directory*, which is made if it is not there. *identity* (bytes) tells stores apart.

    With *synced* a record is on disk when :meth:`append` returns; without, when the system gets to it.
    """

    def __init__(self, directory, identity, synced):
        self._seed = zlib.crc32(identity)
        self._at = 0
        path = os.path.join(directory, "journal")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_DSYNC if synced else 0), 0o644)
            size = os.fstat(self._file).st_size
            if size < JOURNAL_BYTES:    # written and not merely reserved: else the first record there costs two syncs
                os.pwrite(self._file, bytes(JOURNAL_BYTES - size), size)
                os.fsync(self._file)
                sync_directory(directory)
        except OSError as error:
            raise StoreError(f"{path} cannot be used: {error.strerror}.", path=path) from error

    def replay(self, serial):
        """Return the payloads of the records that follow on *serial*, and go on behind them."""
        content = os.pread(self._file, JOURNAL_BYTES, 0)
        payloads, at = [], 0
        while at + _HEAD.size <= len(content):
            checksum, length, number = _HEAD.unpack_from(content, at)
            end = at + _HEAD.size + length
            if number != serial + 1 or end > len(content) or checksum != zlib.crc32(content[at + 4:end], self._seed):
                break
            payloads.append(content[at + _HEAD.size:end])
            serial, at = number, end
        self._at = at
        return payloads

    def append(self, serial, payload):
        """Keep *payload* as the commit *serial*; tell whether there was room and the disk took it."""
        size = _HEAD.size + len(payload)
        if len(payload) > MOST_BYTES or self._at + size > JOURNAL_BYTES:
            return False
        tail = _TAIL.pack(len(payload), serial) + payload
        record = zlib.crc32(tail, self._seed).to_bytes(4, "little") + tail
        try:
            if os.pwrite(self._file, record, self._at) != size:
                return False
        except OSError:     # LMDB is to keep it then, or say why it does not
            return False
        self._at += size
        return True

    @property
    def is_empty(self):
        return self._at == 0

    def restart(self):
        """All that was kept is in LMDB."""
        self._at = 0

    def close(self):
        os.close(self._file)
