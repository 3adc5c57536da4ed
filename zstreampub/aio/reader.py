"""What a coroutine reads: subscriptions and consumptions share it.

Rules: a cancelled wait loses nothing, for a message is taken when it is handed out and not before; what
was begun for it (opening, carrying) goes on, and the next wait finds it. The program's callbacks are
called here, in the event loop, at their place in the stream.
"""

import asyncio
import inspect
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from time import monotonic

from ..client.publisher import again
from ..errors import ConnectionLost, GapError, RequestTimeout, SubscriptionEnded, ZStreamPubError
from ..threads.waits import start_thread
from .pump import End, Pump

_TURN_S = 0.01          # a reader that never has to wait lets the other coroutines run so often


class Reader:
    """Base: opens by itself when it is first read; ``await`` it, or enter it, to have that done now.

    *line_of()* returns the line, *make* of the client there makes what is read. Several coroutines may read: each
    message goes to one of them. What reads it has ``_hand_out`` and ``_load``.
    """

    pump_of: type = Pump

    def __init__(self, line_of, make, **callbacks):
        self._line_of, self._make, self._callbacks = line_of, make, callbacks
        self._line = self._pump = self._inside = None
        self._opening = self._closing = None        # futures
        self._finalizer = None
        self._started = False
        self._items = deque()       # that have come over
        self._waiters = set()       # futures
        self._outcome = None        # once it has ended: None or the error, in a tuple
        self._turn_at = monotonic()

    @property
    def id(self):
        """The server's name of the subscription, None before it is open."""
        return self._inside and self._inside.id

    @property
    def epoch(self):
        """The identity of the server's log, None before it is open."""
        return self._inside and self._inside.epoch

    @property
    def gaps(self):
        """How many gaps were told, those that are ahead of the reader too."""
        return self._inside.gaps if self._inside else 0

    @property
    def resumed(self):
        """How often it was opened again on another connection."""
        return self._inside.resumed if self._inside else 0

    def __await__(self):
        return self._open().__await__()

    async def __aenter__(self):
        return await self._open()

    async def __aexit__(self, *_):
        await self.close()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while True:
            if monotonic() - self._turn_at > _TURN_S:
                await self._give_way()
            message = self._hand_out()
            if message is not None:
                return message
            if not await self._go_on():
                raise StopAsyncIteration

    async def get(self, timeout_s=None):
        """Return the next message. Raises RequestTimeout, and SubscriptionEnded after the last one."""
        message = self._hand_out()
        while message is None and self._items:
            await self._go_on()
            message = self._hand_out()
        if message is not None:
            return message      # also where timeout_s is 0
        if self._line is not None:
            self._line.check_owner()
        try:
            return await asyncio.wait_for(self.__anext__(), timeout_s)
        except asyncio.TimeoutError:
            raise RequestTimeout("No message came in time.") from None
        except StopAsyncIteration:
            raise SubscriptionEnded("It has ended.") from None

    async def close(self):
        """End it: a loop over it ends. Returns when the server has said so, as the gevent client does."""
        self.end()
        if self._closing is None and self._pump is not None:
            self._line.check_owner()
            self._finalizer.detach()
            self._closing, _ = self._line.begin(self._pump.close)
        if self._closing is not None:
            with suppress(ConnectionLost):      # the client was closed: so is this
                await asyncio.shield(self._closing)

    def end(self):
        """Hand out nothing more; whoever waits is told the end."""
        if self._outcome is None:
            self._outcome = (None,)
        self._items.clear()
        self._drop()
        self._wake()

    def arrive(self, item):
        """Take what the pump has carried over."""
        if self._outcome is None:
            self._items.append(item)
            self._wake()

    # --- what each kind of reader says for itself ----------------------------------------------------

    def _hand_out(self):
        """Return the next message of what is loaded, or None."""
        raise NotImplementedError

    def _load(self, content, messages, size):
        """Get what has come over ready for handing out, or hand it back."""
        raise NotImplementedError

    def _drop(self):
        """Forget what was loaded."""

    def _reach(self, offset):
        """Take note that all below *offset* was handed out or will not come."""

    # --- beginning -----------------------------------------------------------------------------------

    async def _open(self):
        """Open it unless it is; a wait that is cancelled leaves the opening to the next."""
        if self._outcome is not None:
            error = self._outcome[0]
            raise SubscriptionEnded("It has ended: subscribe anew.") if error is None else again(error)
        if self._opening is None:
            self._begin()
        self._line.check()
        opening = self._opening
        try:
            inside = await asyncio.shield(opening)
        except ZStreamPubError:
            if opening is self._opening:
                self._opening = None        # the next may try again
            raise
        if self._inside is None:
            self._inside = inside
            self._reach(getattr(inside, "offset", None))
        return self

    def _begin(self):
        line = self._line = self._line_of()
        pump = self._pump = self.pump_of(line, weakref.ref(self))
        self._opening, _ = line.begin(partial(pump.open, partial(self._make, line.client), self._callbacks))
        line.readers.add(self)
        self._finalizer = weakref.finalize(self, _let_go, line, pump)
        self._finalizer.atexit = False

    def _start(self):
        self._started = True
        self._line.to_hub(self._pump.start)

    # --- going on ------------------------------------------------------------------------------------

    async def _go_on(self):
        """Take one thing that has come over, or wait for one; return False at the end."""
        if self._items:
            content, messages, size, offset = self._items.popleft()
            if not callable(content) and not isinstance(content, (GapError, End)):
                self._load(content, messages, size)
                return True
            self._give_back(messages, size)
            self._reach(offset)
            await self._take_control(content)
        elif self._outcome is not None:
            if self._outcome[0] is not None:
                raise again(self._outcome[0])
            return False
        else:
            await self._wait()
        return True

    async def _take_control(self, content):
        if isinstance(content, End):
            self._outcome = (content.error,)
            self._wake()
        elif isinstance(content, GapError):
            raise content
        else:
            said = content()
            if inspect.isawaitable(said):
                await said

    async def _wait(self):
        if not self._started:
            try:
                await self._open()
            except ZStreamPubError:
                if self._outcome is None:
                    raise
                return      # it was closed meanwhile
            if not self._started:
                self._start()
            return
        self._line.check()
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter        # if that is cancelled, nothing has been taken
        finally:
            self._waiters.discard(waiter)
        self._turn_at = monotonic()

    def _wake(self):
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _give_way(self):
        await asyncio.sleep(0)
        self._turn_at = monotonic()

    def _give_back(self, messages, size):
        self._line.to_hub(self._pump.give_back, messages, size)


def _let_go(line, pump):
    """Close what nobody reads any more; called by the collector, which must not wait for the carrier's lock."""
    if line.is_here and line.error is None:
        with suppress(RuntimeError):        # the process ends
            start_thread(line.carrier.post, (pump.close_soon,))
