"""A message of a consumer as a coroutine gets it: what is said of it can be awaited."""

import asyncio
from functools import partial

from ..client import delivery
from ..errors import ZStreamPubError


class Delivery(delivery.Delivery):
    """A message to be settled: ``ack()``, ``nack()``, ``reject()`` and ``extend()`` are those of the gevent client.

    Each says it at once, and returns something to await (not a coroutine): that returns when it is on
    the server's disk, or raises StaleDelivery. It need not be awaited; what then fails is logged.
    """

    __slots__ = ("inner",)

    def __init__(self, inner, line):
        super().__init__(inner, inner.lease, _Home(line))
        self.inner = inner      # on the hub

    @property
    def is_settled(self):
        """Whether it was acknowledged, given back or rejected here."""
        return self._said is not None or self.inner.is_settled


class _Home:
    """Where deliveries say what becomes of them: over the line."""

    __slots__ = ("_line",)

    def __init__(self, line):
        self._line = line

    def settle(self, key, delivery):
        """Say *key* of *delivery*; return what can be awaited."""
        return Said(self._line, partial(delivery.inner.say, key))

    def extend(self, key, delivery):
        """Say *key* of *delivery*, which is to be worked on for longer; return what can be awaited."""
        return Said(self._line, partial(delivery.inner.extend, key[1]))


class Said:
    """Await it, any number of times, to know that it counts; cancelling that does not take it back."""

    __slots__ = ("asked", "_line", "_future")

    def __init__(self, line, say):
        line.check_owner()
        self.asked = False
        self._line = line
        self._future = line.future()
        line.to_hub(self._say, say)

    def __await__(self):
        self.asked = True
        return asyncio.shield(self._future).__await__()

    def done(self):
        """Whether the answer is there."""
        return self._future.done()

    def _say(self, say):
        """On the hub."""
        try:
            settlement = say()
        except ZStreamPubError as error:
            self._line.to_loop(self._settle, None, error)
            return
        settlement.asked = settlement.asked or self.asked       # else what goes wrong is logged
        settlement.rawlink(self._answer)

    def _answer(self, settlement):
        self._line.to_loop(self._settle, settlement.value, settlement.exception)

    def _settle(self, value, error):
        self._line.settle(self._future, value, error)
