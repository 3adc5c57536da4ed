"""A member of a durable consumer as a coroutine reads it, or has it call coroutines."""

from functools import partial

from .asking import Asking
from .delivery import Delivery
from .pump import ConsumptionPump
from .reader import Reader


class Consumption(Reader):
    """Iterate to get deliveries; made by ``Client.consume``. At most 64 of them are ahead of the reader.

    A delivery that is ahead stays ours as one that waits on the hub does, and is not handed out if it was
    delivered again since.
    """

    pump_of = ConsumptionPump

    def __init__(self, line_of, make, **callbacks):
        super().__init__(line_of, make, **callbacks)
        self._delivery = None       # the next one

    @property
    def consumer(self):
        """The consumer's name, None before it is open."""
        return self._inside and self._inside.consumer

    @property
    def member(self):
        """This member's name, None before it is open."""
        return self._inside and self._inside.member

    async def run(self, callback, *, workers=1, on_exception=None, keep_extending=True):
        """Await ``callback(delivery)`` for each message until :meth:`stop`: ack when it returns, nack when it raises.

        At most *workers* callbacks are at work at a time. ``on_exception(error, delivery)``, a function or coroutine,
        may return "nack" (as None), "reject", or "stop", which gives the message back and raises the error
        here. All else is as in the gevent client. If this is cancelled, or the client is closed, the callbacks
        are cancelled and awaited, and their messages are given back.
        """
        await self._open()
        if self._outcome is not None:
            return      # stopped meanwhile
        line, asking = self._line, Asking(self._line)

        def work(delivery):
            asking.call(callback, Delivery(delivery, line))

        def judge(error, delivery):
            return asking.call(on_exception, error, Delivery(delivery, line))

        try:
            await line.run(partial(self._inside.run, work, workers=workers, keep_extending=keep_extending,
                                   on_exception=on_exception and judge))
        finally:
            await asking.cancel()

    def stop(self):
        """Hand out nothing more: loops end, and :meth:`run` returns when its callbacks have. Then :meth:`close`."""
        self.end()
        if self._inside is not None:
            self._line.to_hub(self._inside.stop)

    def _hand_out(self):
        delivery, self._delivery = self._delivery, None
        return delivery

    def _load(self, content, messages, size):
        self._line.to_hub(self._pump.hand_on, content)
        if self._inside.is_ours(content):
            self._delivery = Delivery(content, self._line)

    def _drop(self):
        self._delivery = None
