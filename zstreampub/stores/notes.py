"""Notes: what is on disk in a file of its own before LMDB has it, see disk/journal.py.

A small group of appends, such as a publish or an acknowledgement that came alone, is noted with one wait for the disk.
The next commit of LMDB, whatever for, takes along what was noted: LMDB alone holds a state that once was, and with the
notes the newest. Used by the writer thread, and at the start.

A note: u32 RUN, u64 key, u32 length, and the run as in the log (records.py), if it brings messages; then its changes,
as in the journal.
"""

import struct

from ..disk.journal import Journal, new_ground
from ..errors import StoreCorrupt
from .journal import pack_changes, unpack_changes

NAME = "notes"

_RUN = struct.Struct("<IQI")
_IS_RUN = 0xFFFFFFFF        # no change has that length


class Notes:
    """The notes in *directory*. With *used* False none is written; what is there is found all the same.

    ``kept`` are the number of the first change that LMDB does not have, and a list of all from there on; ``runs`` is
    a list of ``(offset, packed run)`` that its log does not have, ``ids`` the blocks of their ids (ids.py), and
    ``id_count`` how many those are.
    """

    def __init__(self, directory, used=True):
        self.used = used
        self._file = Journal(directory, NAME)
        self._next_ground = b""
        self._keep_from(0)

    def __bool__(self):
        return bool(self.kept[1] or self.runs)

    @property
    def first(self):
        return self.kept[0]

    def find(self, ground, next):
        """Keep what was noted on *ground*, on top of a journal that goes on at *next*; but for the ids."""
        self._keep_from(next)
        for payload in self._file.replay(ground):
            run, changes = _unpacked(payload)
            self._keep(run, changes)

    def write(self, changes, run=None):
        """Have *changes*, the next ones, and *run* on disk; return False if LMDB is to take them instead."""
        if not self.used or not self._file.append(_packed(run, changes)):
            return False
        self._keep(run, changes)
        return True

    def keep_ids(self, block, count):
        """Keep the *block* of the *count* ids of the run that was noted last."""
        self.ids.append(block)
        self.id_count += count

    def draw_ground(self):
        """Return the ground that LMDB is to keep in a commit that takes what was noted; then :meth:`taken`."""
        self._next_ground = new_ground()
        return self._next_ground

    def taken(self, next):
        """Learn that LMDB has everything, the changes below *next*, and the ground that was drawn last."""
        self._keep_from(next)
        self._file.restart(self._next_ground)

    def close(self):
        """Close the file."""
        self._file.close()

    def _keep_from(self, next):
        self.kept: tuple = (next, [])
        self.runs: list = []
        self.ids: list = []
        self.id_count = 0

    def _keep(self, run, changes):
        self.kept[1].extend(changes)
        if run is not None:
            self.runs.append(run)


def _packed(run, changes):
    if run is None:
        return pack_changes(changes)
    key, packed = run
    return b"".join((_RUN.pack(_IS_RUN, key, len(packed)), packed, pack_changes(changes)))


def _unpacked(payload):
    run = None
    if payload[:4] == _RUN.pack(_IS_RUN, 0, 0)[:4]:
        _, key, size = _RUN.unpack_from(payload)
        end = _RUN.size + size
        if end > len(payload):
            raise StoreCorrupt(f"The note of the run at offset {key} is cut off. Restore the store from a backup.")
        run, payload = (key, payload[_RUN.size:end]), payload[end:]
    return run, [change for _, change in unpack_changes(0, payload)]
