"""FollowedStore: the log of a directory that another process has open and writes, to be read and followed.

It changes nothing on the disk. It holds no lock of its own: the writing process starts its user and holds the
other end of *socket*, and this store dies when that end is closed.

**What is new is read on the hub**, unlike all else: a thread would have to get the GIL back from a busy hub after
each call into LMDB, 0.5 ms a record, and be slower than the fan-out. It has only just been written, so it is in memory.
"""

import os
import struct

import gevent

from ..disk.environment import RESERVE_BYTES
from ..disk.snapshots import ForeignSnapshots
from ..errors import NotWriter, StoreClosed, StoreCorrupt, StoreError
from ..store import Append
from .catchup import FollowedState
from .check import check_store
from .looking import Looking
from .records import DATABASES

WAKE = b"\0"            # what the writing process sends after each commit
_LOOK_S = 1.0           # it looks so often without being woken
_MOST_WAKES = 4096


class FollowedStore(Looking):
    """The log in *directory*; *socket* brings a WAKE whenever there may be something new.

    Told to the follower are the batches that another process appended. Instead ``torn(next)`` is called on the hub
    where some below *next* were trimmed before they were told, and ``asked(count)`` for so many bytes that are no WAKE;
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
        self.steps = 0
        self._deliver = self._died = None
        self._fanning_out = self._again = False
        self._socket = socket
        self._watchers = []

    # --- following ---------------------------------------------------------------

    def follow(self, deliver, died=None, removed=None):
        """Begin to follow, from what :meth:`bounds` says now; ``removed`` is not called."""
        self._deliver, self._died = deliver, died
        loop = gevent.get_hub().loop
        line, clock = loop.io(self._socket.fileno(), 1), loop.timer(_LOOK_S, _LOOK_S)
        line.start(self._guarded, self._listen)
        clock.start(self._guarded, self._look)
        self._watchers = [line, clock]

    def _listen(self):
        try:
            got = os.read(self._socket.fileno(), _MOST_WAKES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            got = b""
        if not got:
            raise StoreClosed("The process that writes the log has ended.")
        asked = len(got) - got.count(WAKE)
        if asked:
            self.asked(asked)
        self._look()

    def _look(self):
        """Take a step, or have one taken when the one before is fanned out: what is in memory is bounded."""
        self._again = True
        if not self._fanning_out:
            self._take_step()

    def _take_step(self):
        step = self._environment.read_at_once(self._state.step)
        self._again = step.more
        self.steps += step.torn or bool(step.batches)
        if step.batches and not step.torn:
            self._fanning_out = True
            self._deliver([Append(step.batches, self._fanned_out)])
            return
        if step.torn:
            self.torn(step.end)
        self._fanned_out(None)

    def _fanned_out(self, _):
        self._fanning_out = False
        if self._again:
            gevent.spawn(self._go_on)

    def _go_on(self):
        gevent.idle(2)      # polls, unlike sleep(0)
        if self._again and not self._fanning_out and self._closing is None:
            self._guarded(self._take_step)

    def _guarded(self, function):
        try:
            function()
        except Exception as error:      # nothing more can be told, whatever it is
            self._stop()
            self._died(error if isinstance(error, StoreError) else StoreError(
                f"The log cannot be followed any more: {type(error).__name__}: {error}. Start again."))

    def _stop(self):
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers = []

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
                "topics": len(state.topics), "steps": self.steps}

    def check(self):
        self._read(check_store, self._settings)

    def close(self):
        if self._closing is not None:
            return
        self._closing = True
        self._stop()
        self._readers.apply(self._environment.close)
        self._readers.kill()


def _not_here():
    return NotWriter("This process only reads the log; another one writes it.")


def _nothing(_):
    pass
