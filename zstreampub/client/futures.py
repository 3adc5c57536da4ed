"""The outcome of something that was sent and is not answered yet."""

from gevent.event import AsyncResult


class Future(AsyncResult):
    """``get(timeout=...)`` returns the outcome or raises; ``asked`` tells whether anybody has called it.

    Whoever makes one sets ``asked``: there are many of them, and another ``__init__`` would cost.
    """

    __slots__ = ("asked",)

    def get(self, block=True, timeout=None):
        self.asked = True
        return super().get(block, timeout)

    def result(self, timeout=None):
        """Return the outcome, as ``get`` does."""
        return self.get(timeout=timeout)


class Sending(Future):
    """What becomes of a message in an outbox: ``get(timeout=...)`` gives its offset once the server has it.

    The outbox forgets one that nobody holds or waits for: a million messages may wait for days.
    """

    __slots__ = ("_linked",)

    def __init__(self, linked):
        super().__init__()
        self.asked = False
        self._linked = linked

    def rawlink(self, callback):
        super().rawlink(callback)
        if not self.ready():
            self._linked.add(self)

    def settle(self, value, error=None):
        self._linked.discard(self)
        if error is None:
            self.set(value)
        else:
            self.set_exception(error)
