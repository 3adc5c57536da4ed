"""The line between an event loop and the hub where the client is: each side tells the other what to call.

Rules: what one side says in a turn of its loop goes over in one go, in order, at the end of the turn. Nothing that
is called so may wait. When either side is closed, what is said to it is dropped. Whoever waits in the event loop
waits for a future of :meth:`Line.future`, which :meth:`Line.close` settles.
"""

import asyncio
import logging
import os
from functools import partial
from weakref import WeakSet

from ..client.publisher import again
from ..errors import ConnectionLost, RequestError
from ..threads.carrier import Call

logger = logging.getLogger(__name__)


class Line:
    """Between *loop*, which is running, and the hub of *carrier*; ``on_lost()`` is called there if the loop is closed.

    ``client`` is zstreampub's own, on the hub.
    """

    def __init__(self, loop, carrier, client, on_lost):
        self.client = client
        self.carrier = carrier
        self.readers = WeakSet()    # what is to be told the end
        self.error = None           # for whoever comes after close()
        self._loop = loop
        self._process = os.getpid()
        self._on_lost = on_lost
        self._waiting = {}          # future -> Call that it is of, or None
        self._is_lost = False
        self._for_hub: list = []
        self._for_loop: list = []

    @property
    def is_here(self):
        """Whether this process has made it, not one that this is a fork of."""
        return os.getpid() == self._process

    def check_owner(self):
        """Raise RequestError in any event loop or process but its own."""
        if not self.is_here:
            raise RequestError("This Client belongs to the parent process: make one after the fork.")
        if asyncio.get_running_loop() is not self._loop:
            raise RequestError("A Client works only in the event loop that used it first: make one in each.")

    def check(self):
        """Raise what :meth:`check_owner` does, and ConnectionLost after :meth:`close`."""
        self.check_owner()
        if self.error is not None:
            raise again(self.error)

    # --- saying -------------------------------------------------------------------------------

    def to_hub(self, function, *args):
        """Have ``function(*args)`` called on the hub. Called in the event loop's thread."""
        self._for_hub.append((function, args))
        if len(self._for_hub) == 1:
            self._loop.call_soon(self.flush)

    def flush(self):
        """Send what was said to the hub now."""
        said, self._for_hub = self._for_hub, []
        if said:
            self.carrier.post(_call_all, said)

    def to_loop(self, function, *args):
        """Have ``function(*args)`` called in the event loop. Called on the hub."""
        self._for_loop.append((function, args))
        if len(self._for_loop) == 1:
            self.carrier.loop.run_callback(self._send)

    def _send(self):
        said, self._for_loop = self._for_loop, []
        try:
            self._loop.call_soon_threadsafe(_call_all, said)
        except RuntimeError:    # the event loop is closed
            if not self._is_lost:
                self._is_lost = True
                self._on_lost()

    # --- waiting, in the event loop --------------------------------------------------------------

    def future(self, call=None):
        """Return a future, of *call* if given, that is settled by :meth:`settle`, or when this is closed."""
        future = self._loop.create_future()
        if self.error is None:
            self._waiting[future] = call
        else:
            _fail(future, again(self.error))
        return future

    def settle(self, future, value, error=None):
        """Give *future* its outcome, unless it has one."""
        self._waiting.pop(future, None)
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            _fail(future, error)

    async def outcome(self, future, abandon, *args):
        """Wait for *future*; if that is cancelled, have ``abandon(*args)`` called on the hub."""
        try:
            return await future
        except asyncio.CancelledError:
            self.to_hub(abandon, *args)
            raise
        finally:
            self._waiting.pop(future, None)

    def begin(self, function, undo=None):
        """Run *function* in a greenlet of the hub; return a future, and the Call that may be abandoned there."""
        call = Call(function, undo, None)
        future = self.future(call)
        call.wake = partial(self.to_loop, self._take, future, call)
        self.to_hub(self.carrier.start, call)
        return future, call

    async def run(self, function, undo=None):
        """Run *function* in a greenlet of the hub; return or raise what it does.

        If this is cancelled the greenlet is killed; if it had a result already, ``undo(result)`` is called there.
        """
        future, call = self.begin(function, undo)
        return await self.outcome(future, call.abandon)

    def _take(self, future, call):
        call.wake = None    # or the two keep each other
        self.settle(future, call.result, call.error)

    # --- the end ----------------------------------------------------------------------------------

    def close(self):
        """Send what was said; whoever waits gets ConnectionLost, readers end.

        In the event loop, or in another one if that is closed, when nobody can wait any more.
        """
        can_tell = self.is_here and not self._loop.is_closed()
        if can_tell:
            self.check_owner()
        self.error = ConnectionLost("The client is closed.")
        if not can_tell:
            return
        for future, call in list(self._waiting.items()):
            self.settle(future, None, again(self.error))
            if call is not None:
                self.to_hub(call.abandon)
        for reader in list(self.readers):
            reader.end()
        self.flush()


def _fail(future, error):
    future.set_exception(error)
    future.exception()      # if nobody awaits it any more, asyncio need not complain


def _call_all(said):
    for function, args in said:
        try:
            function(*args)
        except Exception:       # a bug; but the others are for others
            logger.exception("what came over from the other thread cannot be done: %r", function)
