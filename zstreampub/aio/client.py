"""The client for asyncio: the calls of zstreampub's own, by the same names, to be awaited."""

import asyncio
import warnings
import weakref
from contextlib import suppress
from functools import partial, wraps

from ..client import client as own
from ..client import entries
from ..errors import ConnectionLost
from ..threads.home import Home
from ..threads.waits import start_thread
from .consumption import Consumption
from .delivery import Delivery
from .line import Line
from .outbox import Outbox, Sending
from .subscription import Subscription


def _carried(method):
    """Return *method* of zstreampub's own client as a coroutine function that runs it there."""
    @wraps(method)
    async def call(self, *args, **options):
        line = self._here()
        return await line.run(partial(method, line.client, *args, **options))
    return call


class Client:
    """Publishes to and subscribes at the server at *address*; *options* are those of ``zstreampub.Client``.

    Belongs to the event loop that uses it first, and may be made before there is one: its thread begins with the
    first call. ``async with`` or :meth:`close` ends it. A call that is cancelled is given up: a publish that was
    not sent yet never will be. Errors are those of ``zstreampub.Client``.
    """

    def __init__(self, address="tcp://127.0.0.1:4242", **options):
        self._open = partial(own.Client, address, **options)
        self._has_outbox = options.get("outbox") is not None
        self._home = self._line = self._closing = self._finalizer = None
        self._is_closed = False

    # --- publishing --------------------------------------------------------------------

    async def publish(self, topic, payload, *, content_type=None, headers=None, key=None, id=None, unique=None,
                      ttl_s=None, timeout_s=None, **terms):
        """Publish one message; return its offset once it is on the server's disk.

        With an outbox: return once it is on the disk here; what is returned gives the offset when it is awaited.
        The options are those of ``zstreampub.Client.publish``. Calls that run at the same time share requests.
        """
        line = self._here()
        if terms or self._has_outbox:
            return self._answer(await line.run(partial(
                line.client.publish, topic, payload, content_type=content_type, headers=headers, key=key, id=id,
                unique=unique, ttl_s=ttl_s, timeout_s=timeout_s, **terms)))
        entry = entries.single(topic, payload, headers, key, id, unique, ttl_s, content_type)
        return await _publish(line, entry, timeout_s)

    async def publish_many(self, topic, payloads, *, content_type=None, headers=None, keys=None, ids=None, unique=None,
                           ttl_s=None, timeout_s=None, **terms):
        """Publish a list of messages, all or none; return ``(first, next)``: ``first <= offset < next``.

        The options are those of ``zstreampub.Client.publish_many``.
        """
        line = self._here()
        if terms or self._has_outbox:
            return self._answer(await line.run(partial(
                line.client.publish_many, topic, list(payloads), content_type=content_type, headers=headers, keys=keys,
                ids=ids, unique=unique, ttl_s=ttl_s, timeout_s=timeout_s, **terms)))
        entry = entries.several(topic, payloads, headers, keys, ids, unique, ttl_s, content_type)
        return await _publish(line, entry, timeout_s)

    cancel = _carried(own.Client.cancel)
    scheduled = _carried(own.Client.scheduled)

    # --- reading -----------------------------------------------------------------------

    def subscribe(self, patterns=">", *, on_gap=None, on_control=None, **options):
        """Return a :class:`Subscription`, which opens when it is first read, awaited or entered.

        *options* are those of ``zstreampub.Client.subscribe``; a wrong one raises when it opens. *on_gap* and
        *on_control* are called in the event loop, and awaited if they are coroutines.
        """
        return Subscription(self._here, partial(own.Client.subscribe, patterns=patterns, **options),
                            on_gap=on_gap, on_control=on_control)

    def consume(self, patterns=None, consumer=None, *, on_gap=None, on_control=None, **options):
        """Return a :class:`Consumption`, which joins the durable *consumer* when it is first read, awaited or entered.

        *options* are those of ``zstreampub.Client.consume``.
        """
        return Consumption(self._here, partial(own.Client.consume, patterns=patterns, consumer=consumer, **options),
                           on_gap=on_gap, on_control=on_control)

    async def fetch(self, consumer, count=1, **options):
        """Return a list of at most *count* deliveries, without joining; as ``zstreampub.Client.fetch`` does."""
        line = self._here()
        found = await line.run(partial(line.client.fetch, consumer, count, **options), undo=_give_back)
        return [Delivery(one, line) for one in found]

    # --- asking and steering --------------------------------------------------------------

    call = _carried(own.Client.call)
    topics = _carried(own.Client.topics)
    subscriptions = _carried(own.Client.subscriptions)
    unsubscribe = _carried(own.Client.unsubscribe)
    stats = _carried(own.Client.stats)
    about = _carried(own.Client.about)
    ask_workers = _carried(own.Client.ask_workers)
    get = _carried(own.Client.get)
    last = _carried(own.Client.last)

    consumers = _carried(own.Client.consumers)
    consumer = _carried(own.Client.consumer)
    peek = _carried(own.Client.peek)
    browse = _carried(own.Client.browse)
    create_consumer = _carried(own.Client.create_consumer)
    update_consumer = _carried(own.Client.update_consumer)
    delete_consumer = _carried(own.Client.delete_consumer)
    seek = _carried(own.Client.seek)
    pause = _carried(own.Client.pause)
    resume = _carried(own.Client.resume)
    clear_acked = _carried(own.Client.clear_acked)
    replace = _carried(own.Client.replace)
    ack = _carried(own.Client.ack)
    nack = _carried(own.Client.nack)
    reject = _carried(own.Client.reject)
    extend = _carried(own.Client.extend)
    dead = _carried(own.Client.dead)
    redrive = _carried(own.Client.redrive)
    purge = _carried(own.Client.purge)

    # --- the rest ----------------------------------------------------------------------

    @property
    def outbox(self):
        """The :class:`Outbox`, None without one."""
        return Outbox(self._here()) if self._has_outbox else None

    @property
    def is_connected(self):
        """Whether there is a connection at the moment."""
        return self._line is not None and self._line.client.is_connected

    @property
    def is_open(self):
        """Whether it was not closed."""
        return not self._is_closed

    async def close(self):
        """Close the connection and end the thread: whoever waits gets ConnectionLost, subscriptions end."""
        if self._line is not None and self._closing is None:
            self._line.close()
            self._finalizer.detach()
            self._closing = _elsewhere(self._home.close)
        self._is_closed = True
        if self._closing is not None and not self._closing.done():
            await asyncio.shield(self._closing)

    async def __aenter__(self):
        self._here()
        return self

    async def __aexit__(self, *_):
        await self.close()

    def _answer(self, answer):
        return Sending(self._line, answer) if self._has_outbox else answer

    def _here(self):
        """Return the line of the event loop that runs; begin the thread if this is the first call."""
        if self._line is None:
            if self._is_closed:
                raise ConnectionLost("The client is closed.")
            loop = asyncio.get_running_loop()
            self._home = home = Home(self._open)
            self._line = Line(loop, home.carrier, home.inside, partial(start_thread, home.close, ()))
            self._finalizer = weakref.finalize(self, _let_go, home)
            self._finalizer.atexit = False
        self._line.check()
        return self._line


async def _publish(line, entry, timeout_s):
    future = line.future()
    entry.on_outcome = partial(line.to_loop, _take_outcome, line, future)
    line.to_hub(_submit, line.client, entry, timeout_s)
    return await line.outcome(future, line.client.give_up, entry, ConnectionLost("Nobody waits for it any more."))


def _take_outcome(line, future, entry):
    line.settle(future, entry.value, entry.exception)


def _submit(client, entry, timeout_s):
    """On the hub: publish *entry*, whose outcome is an error if that cannot be done."""
    try:
        client.submit(entry, timeout_s)
    except Exception as error:
        entry.settle(None, error)


def _give_back(found):
    """On the hub: have others take deliveries that came for nobody."""
    for delivery in found:
        delivery.nack(delay_s=0)


def _elsewhere(function):
    """Call *function* in a thread of its own; return a future of the event loop that runs."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def work():
        error = None
        try:
            function()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):        # the event loop was closed meanwhile
            loop.call_soon_threadsafe(_settle, future, error)

    start_thread(work, ())
    return future


def _settle(future, error):
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _let_go(home):
    """End the thread of a client that was dropped without being closed."""
    if home.is_here:
        warnings.warn("A zstreampub.aio.Client was dropped without being closed.", ResourceWarning, stacklevel=2)
        with suppress(RuntimeError):        # the process ends; it is closed then
            start_thread(home.close, ())
