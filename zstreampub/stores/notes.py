"""Notes: changes of the journal that are on disk in a file of their own before LMDB has them, see disk/journal.py.

Appends that bring nothing but changes (acknowledgements, hand-outs) are noted, each with one wait for the disk, and the
next commit of LMDB, whatever for, takes along what was noted: LMDB alone holds a state that once was, and with the
notes the newest. A note is one record, its changes as in the journal. Used by the writer thread, and at the start.
"""

from ..disk.journal import Journal, new_ground
from .journal import pack_changes, unpack_changes

NAME = "notes"


class Notes:
    """The notes in *directory*. With *used* False none is written; what is there is found all the same.

    ``kept`` are the number of the first change that LMDB does not have, and a list of all from there on.
    """

    def __init__(self, directory, used=True):
        self.kept: tuple = (0, [])
        self._used = used
        self._file = Journal(directory, NAME)
        self._next_ground = b""

    def __bool__(self):
        return bool(self.kept[1])

    @property
    def first(self):
        return self.kept[0]

    def find(self, ground, next):
        """Keep what was noted on *ground*, on top of a journal that goes on at *next*."""
        noted = self._file.replay(ground)
        self.kept = (next, [change for payload in noted for _, change in unpack_changes(0, payload)])

    def write(self, changes):
        """Have *changes*, the next ones, on disk; return False if LMDB is to take them instead."""
        if not self._used or not self._file.append(pack_changes(changes)):
            return False
        self.kept[1].extend(changes)
        return True

    def draw_ground(self):
        """Return the ground that LMDB is to keep in a commit that takes what was noted; then :meth:`taken`."""
        self._next_ground = new_ground()
        return self._next_ground

    def taken(self, next):
        """Learn that LMDB has all changes below *next*, and the ground that was drawn last."""
        self.kept = (next, [])
        self._file.restart(self._next_ground)

    def close(self):
        """Close the file."""
        self._file.close()
