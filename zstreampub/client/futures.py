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
