"""FollowedStore: the log of a directory that another process has open and writes, to be read and followed.

It changes nothing on the disk. It holds no lock of its own: the writing process starts its user and holds the
other end of *socket*, and this store dies when that end is closed.
"""

import struct
from collections import deque
from contextlib import suppress

import gevent

from ..disk.environment import RESERVE_BYTES
from ..disk.snapshots import ForeignSnapshots
from ..errors import NotWriter, StoreClosed, StoreCorrupt
from ..store import Append
from .catchup import FollowedState
from .check import check_store
from .follower import Follower
from .looking import Looking
from .records import DATABASES


class FollowedStore(Looking):
    """The log in *directory*; *socket* is a native one, and brings a byte whenever there may be something new.

    Told to the follower are the batches that another process appended. Instead ``torn(next)`` is called on the hub
    where some below *next* were trimmed before they were told, and ``asked(count)`` for so many other bytes that came;
    whoever follows sets both. What changes the log raises NotWriter.
    """

    def __init__(self, directory, settings, socket):
        self.directory = directory
        self._settings = settings
        environment = ForeignSnapshots(directory, DATABASES, settings.max_store_bytes + RESERVE_BYTES)
        state = FollowedState(settings)
        try:
            environment.read(state.load)
        except (struct.error, ValueError, IndexError) as error:
            environment.close()
            raise StoreCorrupt(f"{directory} holds a record that cannot be read ({error}).", path=directory) from error
        except BaseException:
            environment.close()
            raise
        super().__init__(environment, state)
        self.torn = self.asked = _nothing
        self._deliver = self._died = None
        self._outcomes = deque()
        self._bell = gevent.get_hub().loop.async_()
        self._bell.start(self._tell)
        self._socket = socket
        self._follower = None

    # --- following ---------------------------------------------------------------

    def follow(self, deliver, died=None, removed=None):
        """Begin to follow, from what :meth:`bounds` says now; ``removed`` is not called."""
        self._deliver, self._died = deliver, died
        gone = StoreClosed("The process that writes the log has ended.")
        self._follower = Follower(self._environment, self._state, self._socket, self._told, gone)

    def _told(self, outcome):
        """Take an outcome from the follower's thread to the hub."""
        self._outcomes.append(outcome)
        with suppress(ValueError):      # it was closed meanwhile
            self._bell.send()

    def _tell(self):
        while self._outcomes and self._closing is None:
            outcome = self._outcomes.popleft()
            if isinstance(outcome, Exception):
                self._died(outcome)
                continue
            if isinstance(outcome, int):
                self.asked(outcome)
            elif outcome.torn:
                self.torn(outcome.end)
                self._follower.done()
            else:
                self._deliver([Append(outcome.batches, self._fanned_out)])

    def _fanned_out(self, _):
        self._follower.done()

    # --- what only the writing process can do ------------------------------------------

    def append(self, append):
        raise _not_here()

    def trim(self, wanted, next):
        raise _not_here()

    def guard(self, guards):
        raise _not_here()

    def journal(self):
        return []

    # --- looking -----------------------------------------------------------------------

    def stats(self):
        state = self._state
        return {"kind": "lmdb, followed", "epoch": self.epoch, "first": state.first, "next": state.end,
                "topics": len(state.topics), "steps": self._follower.steps if self._follower else 0}

    def check(self):
        self._read(check_store, self._settings)

    def close(self):
        if self._closing is not None:
            return
        self._closing = True
        if self._follower is not None:
            self._follower.end()
        self._readers.apply(self._environment.close)
        self._readers.kill()
        self._bell.stop()
        self._bell.close()


def _not_here():
    return NotWriter("This process only reads the log; another one writes it.")


def _nothing(_):
    pass
