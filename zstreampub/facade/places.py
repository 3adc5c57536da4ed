"""Where queues and tables are: a directory or a server, opened once in a process for all who use it.

Nothing waits while the lock is held: the collector may come by anywhere, and let go of a queue there.
"""

import os

from gevent import monkey

from ..broker import Broker
from ..client import Client
from ..client.ports import ClientPort
from ..settings import Retention, Settings
from ..threads.home import Home
from ..threads.waits import allocate_lock, start_thread
from ..views.ahead import AheadPort
from ..views.ports import Port

# Of a store that this process has for itself: what was taken is nobody else's until it is given back.
_SETTINGS = Settings(retention=(Retention("table.>", newest_per_key=True),), rejoin_grace_s=Port.ack_wait_s,
                     consumer_pending=2_000_000, id_window_messages=1_000_000, id_window_s=Port.ack_wait_s)

_lock = monkey.get_original("_thread", "RLock")()
_open: dict = {}        # where -> Place


class Place:
    """One store or server; ``port`` may be used by any thread. Got by :meth:`enter`, and left again."""

    def __init__(self, where):
        self.port = None
        self._where = where
        self._home = None
        self._process = os.getpid()
        self._users = 0
        self._queues = {}       # consumer -> the ids of the queues on it
        self._is_ending = False
        self._opened, self._ended = _Latch(), _Latch()

    @classmethod
    def enter(cls, path):
        """Return the place at *path*; open it if nobody here has. Raises what that raises."""
        where = _where(path)
        while True:
            with _lock:
                place = None if where is None else _open.get(where)
                is_new = place is None or not place.is_here
                if is_new:
                    place = cls(where)
                    if where is not None:
                        _open[where] = place
                is_ending = place._is_ending
                place._users += not is_ending
            if is_ending:
                place._ended.wait()
            elif is_new:
                place._begin()
                return place
            else:
                place._opened.wait()
                if place.port is not None:
                    return place        # else it could not be opened: try it ourselves

    @property
    def is_here(self):
        """Whether it was opened in this process, not before a fork."""
        return os.getpid() == self._process

    def is_first(self, consumer, user):
        """Note that the queue *user* is on *consumer*; return whether no other in this process is."""
        with _lock:
            there = self._queues.setdefault(consumer, set())
            there.add(user)
            return len(there) == 1

    def leave(self, user):
        """Be done with it; the last one closes it, and waits for that."""
        self._forget(user)
        with _lock:
            self._users -= 1
            if self._users:
                return
            self._is_ending = True
        try:
            self.port.give_back()
        finally:
            try:
                self._home.close()
            finally:
                self._end()

    def leave_later(self, user, farewell):
        """Call *farewell* and leave, in a thread of its own. Never waits."""
        self._forget(user)
        if not self.is_here:
            return

        def work():
            try:
                farewell()
            finally:
                self.leave(user)

        try:
            start_thread(work, ())
        except RuntimeError:
            pass        # the process ends; it is closed then

    def _forget(self, user):
        with _lock:
            for there in self._queues.values():
                there.discard(user)

    def _begin(self):
        try:
            self._home = Home(lambda: _open_log(self._where))
            port = ClientPort if _is_address(self._where) else AheadPort
            self.port = port(self._home.inside, self._home.carrier.run)
        except BaseException:
            self._end()
            raise
        finally:
            self._opened.set()

    def _end(self):
        with _lock:
            if _open.get(self._where) is self:
                del _open[self._where]
        self._ended.set()


class _Latch:
    """An event for native threads."""

    def __init__(self):
        self._lock = allocate_lock()
        self._lock.acquire()
        self.set = self._lock.release

    def wait(self):
        self._lock.acquire()
        self._lock.release()


def _where(path):
    """Return what *path* means, the same for the same; None for a store in memory, of which each is one of its own."""
    text = os.fspath(path)
    if text in (":memory:", "memory:"):
        return None
    return text if _is_address(text) else "lmdb:" + os.path.realpath(text.removeprefix("lmdb:"))


def _is_address(where):
    return where is not None and "://" in where


def _open_log(where):
    return Client(where) if _is_address(where) else Broker.open(where or "memory:", _SETTINGS)
