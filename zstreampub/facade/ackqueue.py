"""A work queue and a table by where they are: in a directory, or at a server. For any thread, with or without gevent.

What is opened twice in one process is opened once: the queues and tables of a directory share its store.
"""

from functools import partial

from ..errors import InvalidOption
from ..views.table import Table as _Table
from ..views.workqueue import WorkQueue
from .places import Place

_THEIRS = ("multithreading", "auto_commit", "timeout", "db_file_name")      # of persist-queue; no need here


class _Placed:
    """Of what lives in a Place: it leaves when it is closed, or forgotten."""

    _place = None

    def _enter(self, path, begin):
        """Call ``begin(place)`` with the place at *path*, and stay there if that went well."""
        place = Place.enter(path)
        try:
            begin(place)
        except BaseException:
            place.leave(id(self))
            raise
        self._place = place

    def close(self):
        """Let go of it; it cannot be used any more, and who waits in another thread gets StoreClosed."""
        place, self._place = self._place, None
        if place is not None:
            try:
                if place.is_here:
                    super().close()     # type: ignore[misc]  # of what it is mixed into
            finally:
                place.leave(id(self))

    def __del__(self):
        place, self._place = self._place, None
        if place is not None:
            place.leave_later(id(self), self._farewell(place))

    def _farewell(self, place):
        """Return what is to be called once nobody can use it any more."""
        raise NotImplementedError


class AckQueue(_Placed, WorkQueue):
    """A :class:`WorkQueue` in the directory *path* (``":memory:"``: nowhere), or at a server, ``"tcp://host:4242"``.

    Any thread and greenlet may use it. In a directory, what was taken and not settled when the
    process ended is given back as the queue is opened, unless *auto_resume* is False. *settings* are those
    of a consumer, ``ack_wait_s`` for one. The directory is free again after ``close``.
    """

    def __init__(self, path, auto_resume=True, *, name="default", topic=None, unique=False, maxsize=0, **settings):
        settings = {name: value for name, value in settings.items() if name not in _THEIRS}
        if "serializer" in settings:
            raise InvalidOption("There is no serializer here: items are plain values, and nothing is pickled. Make a "
                                "map of an object (dataclasses.asdict), or put the bytes of a serializer of your own.",
                                option="serializer")

        def begin(place):
            WorkQueue.__init__(self, place.port, name, topic=topic, unique=unique, maxsize=maxsize, **settings)
            if place.is_first(self.consumer, id(self)) and auto_resume and place.port.is_alone:
                self.resume_unack_tasks()
            if auto_resume and not self.settings["max_deliveries"]:
                place.port.take_ahead(self.consumer)    # where deliveries count, none may pass unseen

        self._enter(path, begin)

    def _farewell(self, place):
        return self._let_go()


class UniqueAckQueue(AckQueue):
    """An :class:`AckQueue` in which equal items are put once."""

    def __init__(self, path, auto_resume=True, **options):
        super().__init__(path, auto_resume, **{"unique": True, **options})


class Table(_Placed, _Table):
    """A mapping over the topic ``table.<name>`` (or *topic*), in the directory *path* or at a server.

    Any thread and greenlet may use it. See :class:`zstreampub.views.table.Table`.
    """

    def __init__(self, path, name="default", *, topic=None, **options):
        topic = f"table.{name}" if topic is None else topic
        self._enter(path, lambda place: _Table.__init__(self, place.port, topic, **options))

    def _farewell(self, place):
        return partial(place.port.run, self._view.close)
