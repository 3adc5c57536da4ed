"""Handing over to callbacks: message by message, each to all that want it."""

from ..client.delivery import Delivery
from ..errors import RequestError, UndecodablePayload
from ..message import Message
from ..payload import Undecodable
from .loop import Tries, is_gap, messages_of
from .verdicts import SKIP, Stopped


class Calls:
    """Calls what *routes* has for each message of *loop* that passes *filter* (a function, or None)."""

    def __init__(self, routes, filter, loop):
        self._routes, self._filter, self._loop = routes, filter, loop

    def place(self):
        """Return where it has been: that is not kept."""

    def opened(self):
        pass

    def reached(self, place):
        pass

    def finish(self):
        pass

    def take(self, taken):
        """Hand over the first message, and the rest unless the loop is interrupted; return whether that was all."""
        loop = self._loop
        for at, one in enumerate(messages_of(taken)):
            if at and loop.interrupted:
                return False
            if is_gap(one):
                loop.gap(one)
                continue
            if isinstance(one, Delivery):
                self._work_on(one)
            else:
                self._hand(one)
            loop.reached(one)
        return True

    def _hand(self, message):
        """Call all that want it; where ``on_exception`` says so, what failed and what comes after it is tried again."""
        work = _Work(self._routes, self._filter, message)
        tries = None
        while True:
            try:
                work.go_on()
                return
            except Exception as error:
                tries = tries or Tries(self._loop, message)
                if not tries.again(error):
                    return

    def _work_on(self, delivery):
        """Call all that want it, and say at the server what became of it."""
        if not self._loop.feed.is_ours(delivery):
            return      # it took too long to come to it: it is somebody else's by now
        try:
            _Work(self._routes, self._filter, delivery).go_on()
        except Exception as error:
            self._settle_failed(delivery, error)
        except BaseException:
            delivery.nack(delay_s=0, reason="The receiver was stopped.")
            raise
        else:
            delivery.ack()

    def _settle_failed(self, delivery, error):
        reason = f"{type(error).__name__}: {error}"
        try:
            verdict = self._loop.judge.verdict(error, delivery)
        except Stopped:
            delivery.nack(delay_s=0, reason=reason)
            raise
        if verdict == SKIP:
            delivery.reject(reason)
        else:
            delivery.nack(reason=reason)


class _Work:
    """What is to be done with one message: the filter sees it once, each callback until it has returned."""

    def __init__(self, routes, filter, message):
        self._routes, self._filter = routes, filter
        self._message = message
        self._is_filtered = False
        self._shown = None
        self._called = []

    def go_on(self):
        if not self._is_filtered:
            self._shown = passed(self._message, self._filter)
            self._is_filtered = True
        if self._shown is None:
            return
        for callback in self._wanting():
            if not any(one is callback for one in self._called):
                callback(self._shown)
                self._called.append(callback)

    def _wanting(self):
        message, routes = self._message, self._routes
        if not isinstance(message, Message):
            return () if routes.callback is None else (routes.callback,)
        callbacks = routes.wanting(message.topic)
        if not callbacks and isinstance(message, Delivery):
            raise RequestError(f"No callback wants messages of {message.topic!r}: subscribe one, or leave the topic "
                               "out of the consumer's patterns.", topic=message.topic)
        return callbacks


def passed(message, filter):
    """Return *message*, or what *filter* makes of it. Raises UndecodablePayload."""
    payload = message.payload if isinstance(message, Message) else None
    if isinstance(payload, Undecodable):
        raise UndecodablePayload.of(message)
    return message if filter is None else filter(message)
