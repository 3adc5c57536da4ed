"""A work queue and a table by where they are: in a directory, or at a server. For any thread, with or without gevent.

What is opened twice in one process is opened once: the queues and tables of a directory share its store.
"""

from functools import partial

from ..views.table import Table as _Table
from ..views.workqueue import WorkQueue
from .places import Place

_THEIRS = ("multithreading", "auto_commit", "timeout", "db_file_name")      # of persist-queue; no need here


class AckQueue(WorkQueue):
    """A :class:`WorkQueue` in the directory *path* (``":memory:"``: nowhere), or at a server, ``"tcp://host:4242"``.

    Any thread and greenlet may use it. In a directory, what was taken and not settled when the
    process ended is given back as the queue is opened, unless *auto_resume* is False. *settings* are those
    of a consumer, ``ack_wait_s`` for one. The directory is free again after ``close``.
    """

    _place = None

    def __init__(self, path, auto_resume=True, *, name="default", topic=None, unique=False, maxsize=0, **settings):
        settings = {name: value for name, value in settings.items() if name not in _THEIRS}
        place = Place.enter(path)
        try:
            super().__init__(place.port, name, topic=topic, unique=unique, maxsize=maxsize, **settings)
            if place.is_first(self.consumer, id(self)) and auto_resume and place.port.is_alone:
                self.resume_unack_tasks()
            if auto_resume and not self.settings["max_deliveries"]:
                place.port.take_ahead(self.consumer)    # where deliveries count, none may pass unseen
        except BaseException:
            place.leave(id(self))
            raise
        self._place = place

    def close(self):
        """Let go of the queue, see :meth:`WorkQueue.close`; who waits in another thread gets StoreClosed."""
        place, self._place = self._place, None
        if place is not None:
            try:
                if place.is_here:
                    super().close()
            finally:
                place.leave(id(self))

    def __del__(self):
        place, self._place = self._place, None
        if place is not None:
            place.leave_later(id(self), self._let_go())


class UniqueAckQueue(AckQueue):
    """An :class:`AckQueue` in which equal items are put once."""

    def __init__(self, path, auto_resume=True, **options):
        super().__init__(path, auto_resume, **{"unique": True, **options})


class Table(_Table):
    """A mapping over the topic ``table.<name>`` (or *topic*), in the directory *path* or at a server.

    Any thread and greenlet may use it. See :class:`zstreampub.views.table.Table`.
    """

    _place = None

    def __init__(self, path, name="default", *, topic=None, **options):
        place = Place.enter(path)
        try:
            super().__init__(place.port, f"table.{name}" if topic is None else topic, **options)
        except BaseException:
            place.leave(id(self))
            raise
        self._place = place

    def close(self):
        """Let go of the table; it cannot be used any more."""
        place, self._place = self._place, None
        if place is not None:
            try:
                if place.is_here:
                    super().close()
            finally:
                place.leave(id(self))

    def __del__(self):
        place, self._place = self._place, None
        if place is not None:
            place.leave_later(id(self), partial(place.port.run, self._view.close))
