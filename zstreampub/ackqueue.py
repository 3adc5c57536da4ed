"""A work queue and a table by where they are: in a directory, or at a server. For any thread, with or without gevent.

What is opened twice in one process is opened once: the queues and tables of a directory share its store.
"""

import os

from gevent import monkey

from .broker import Broker
from .client import Client
from .client.ports import ClientPort
from .home import Home
from .ports import Port
from .settings import Retention, Settings
from .table import Table as _Table
from .workqueue import WorkQueue

# Of a store that this process has for itself: what was taken is nobody else's until it is given back.
_SETTINGS = Settings(retention=(Retention("table.>", newest_per_key=True),), rejoin_grace_s=Port.ack_wait_s,
                     consumer_pending=2_000_000, id_window_messages=1_000_000, id_window_s=Port.ack_wait_s)
_THEIRS = ("multithreading", "auto_commit", "timeout", "db_file_name")      # of persist-queue; no need here


class AckQueue(WorkQueue):
    """A :class:`WorkQueue` in the directory *path* (``":memory:"``: nowhere), or at a server, ``"tcp://host:4242"``.

    Any thread and greenlet may use it. In a directory, what was taken and not settled when the
    process ended is given back as the queue is opened, unless *auto_resume* is False. *settings* are those
    of a consumer, ``ack_wait_s`` for one. Close it, or let go of it.
    """

    def __init__(self, path, auto_resume=True, *, name="default", topic=None, unique=False, maxsize=0, **settings):
        settings = {name: value for name, value in settings.items() if name not in _THEIRS}
        self._place = _Place.enter(path)
        try:
            super().__init__(self._place.port, name, topic=topic, unique=unique, maxsize=maxsize, **settings)
            if self._place.is_first(self) and auto_resume and self._place.port.is_alone:
                self.resume_unack_tasks()
        except BaseException:
            self._place.leave(self)
            raise

    def close(self):
        """Let go of the queue; see :meth:`WorkQueue.close`. Who waits in another thread gets StoreClosed."""
        if not self._closed:
            try:
                if self._place.is_usable:
                    super().close()
            finally:
                self._closed = True
                self._place.leave(self)

    def __del__(self):
        if not getattr(self, "_closed", True):
            self.close()


class UniqueAckQueue(AckQueue):
    """An :class:`AckQueue` in which equal items are put once."""

    def __init__(self, path, auto_resume=True, **options):
        super().__init__(path, auto_resume, **{"unique": True, **options})


class Table(_Table):
    """A mapping over the topic ``table.<name>`` (or *topic*), in the directory *path* or at a server.

    Any thread and greenlet may use it. See :class:`zstreampub.table.Table`.
    """

    def __init__(self, path, name="default", *, topic=None, **options):
        self._place = _Place.enter(path)
        try:
            super().__init__(self._place.port, f"table.{name}" if topic is None else topic, **options)
        except BaseException:
            self._place.leave(self)
            raise

    def close(self):
        place, self._place = self._place, None
        if place is not None:
            try:
                if place.is_usable:
                    super().close()
            finally:
                place.leave(self)

    def __del__(self):
        if getattr(self, "_place", None) is not None:
            self.close()


class _Place:
    """One store or server that is open, and who uses it."""

    _lock = monkey.get_original("_thread", "RLock")()
    _open = {}      # where -> _Place

    def __init__(self, where):
        self._where = where
        self._users = 0
        self._queues = {}       # consumer -> the ids of who has it open
        self._home = Home(lambda: _open(where))
        self.port = (ClientPort if _is_address(where) else Port)(self._home.inside, self._home.carrier.run)

    @classmethod
    def enter(cls, path):
        where = _where(path)
        with cls._lock:
            place = cls._open.get(where)
            if place is None or not place.is_usable:
                place = cls(where)
                if where is not None:
                    cls._open[where] = place
            place._users += 1
            return place

    @property
    def is_usable(self):
        """Whether it was opened in this process, not before a fork."""
        return self._home.is_here

    def is_first(self, queue):
        """Note that *queue* is open; return whether nobody else in this process has one of that name open."""
        with self._lock:
            there = self._queues.setdefault(queue.consumer, set())
            there.add(id(queue))
            return len(there) == 1

    def leave(self, user):
        with self._lock:
            for there in self._queues.values():
                there.discard(id(user))
            self._users -= 1
            if not self._users:
                if self._open.get(self._where) is self:
                    del self._open[self._where]
                self._home.close()


def _where(path):
    """Return what *path* means, the same for the same; None for a store of its own."""
    text = os.fspath(path)
    if text in (":memory:", "memory:"):
        return None
    if _is_address(text):
        return text
    return "lmdb:" + os.path.realpath(text.removeprefix("lmdb:"))


def _is_address(where):
    return where is not None and "://" in where


def _open(where):
    if _is_address(where):
        return Client(where)
    return Broker.open(where or "memory:", _SETTINGS)
