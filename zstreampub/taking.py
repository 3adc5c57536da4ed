"""Taking: how a program waits for what comes, at a subscription and at a member alike."""

from typing import Any

from gevent.event import Event

from .errors import RequestTimeout


class Taking:
    """What both are beside a feed: waited for, iterated over, closed at the end of a ``with``.

    It is given ``take()``, which never waits, ``ended``, ``error`` and ``end()``, ``live`` and ``queue``.
    """

    live: bool
    queue: Any

    def __init__(self):
        self.on_ready = _nothing
        self.error = None           # why it ended before its time
        self._ready = None

    def take(self):
        """Return what comes next, None if there is nothing now; never wait."""
        raise NotImplementedError

    def end(self, error=None):
        """End it; *error* (or None) is told to the reader."""
        raise NotImplementedError

    @property
    def ended(self):
        """Whether nothing more will come."""
        raise NotImplementedError

    @property
    def is_idle(self):
        """Whether its reader has everything that there is for it now, so that ``position`` is worth telling."""
        return self.live and not self.queue

    def get(self, timeout_s=None):
        """Wait for what comes next; None once it has ended normally.

        Raises the error that ended it, or RequestTimeout after *timeout_s*.
        """
        if self._ready is None:
            self._ready = Event()
            self.on_ready = self._ready.set
        while True:
            self._ready.clear()
            item = self.take()
            if item is not None:
                return item
            if self.ended:
                if self.error is not None:
                    raise self.error
                self.close()
                return None
            if not self._ready.wait(timeout_s):
                raise RequestTimeout(f"Nothing came within {timeout_s} s.", timeout_s=timeout_s)

    def batches(self):
        """Iterate over what comes as it is taken: whole batches and gaps, the fast way."""
        while (item := self.get()) is not None:
            yield item

    def close(self):
        """Stop; whoever waits in ``get`` or an iteration is told the end."""
        self.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        return self


def _nothing():
    pass
