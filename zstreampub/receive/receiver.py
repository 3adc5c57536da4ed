"""Receiver and ThreadedReceiver: what comes from a source is handed to a callback, or into a store.

Both have one life after the other: ``start``, ``shutdown``, ``start`` ... Within one object a subscription goes on
where it was.
"""

import logging
import os

import gevent

from ..client.publisher import again
from ..errors import InvalidOption, RequestError, RequestTimeout, ZStreamPubError
from ..threads.flag import Flag
from ..threads.waits import allocate_lock, end_hub, start_thread, thread_id
from .calls import Calls
from .handover import HandOver, is_store
from .loop import Loop
from .memory import memory_of
from .routes import Routes
from .source import source_of
from .verdicts import Judge

logger = logging.getLogger(__name__)


class Receiving:
    """Base of both receivers; *source* and what follows is described there."""

    def __init__(self, source, callback=None, on_exception=None, *, filter=None, on_gap=None, name="receiver",
                 **options):
        self._judge = Judge(on_exception)
        for what, function in (("callback", callback), ("filter", filter), ("on_gap", on_gap)):
            if function is not None and not callable(function):
                raise InvalidOption(f"{what} is a function, not {function!r:.60}.", option=what)
        self._source = source_of(source, options)
        self._routes = Routes(self._source.own_patterns, callback)
        self._filter, self._on_gap = filter, on_gap
        self._name = name
        self._process = os.getpid()
        self._place = None
        self._gate = allocate_lock()
        self._loop = None           # while it runs
        self._is_stopping = False
        self._opened, self._ended = Flag(), Flag()
        self._ended.set()
        self.error = None
        if is_store(callback):
            self._source.mark(name)     # or it has none

    # --- its life ------------------------------------------------------------------------

    def start(self):
        """Begin to receive; return self. Does not wait. Raises RequestError if it is running, or has no callback."""
        if not self._source.has_topics and self._routes.callback is None:
            raise RequestError("What comes would be lost: give the receiver a callback first.")
        with self._gate:
            if not self._ended.is_set:
                raise RequestError("This receiver is running already.")
            self._ended.clear()
        self._process = os.getpid()
        self._opened.clear()
        self._is_stopping, self.error = False, None
        try:
            self._launch()
        except BaseException:       # no more threads
            self._ended.set()
            raise
        return self

    def shutdown(self):
        """Stop after the callback that is at work, and wait for that; called in a callback, it does not wait.

        In the child of a fork it does nothing: what runs is the parent's.
        """
        if self._process != os.getpid():
            return
        self._is_stopping = True
        loop = self._loop
        if loop is not None:
            loop.stop()
        if not self._is_inside():
            self._ended.wait()

    def join(self, timeout_s=None):
        """Wait for its end: that of the source (``until``), or what stops it; return whether it has ended."""
        return self._ended.wait(timeout_s)

    def wait_open(self, timeout_s=30.0):
        """Wait until the source is open; return self. Raises what has stopped it, or RequestTimeout."""
        if not self._opened.wait(timeout_s):
            raise RequestTimeout(f"The source was not open within {timeout_s} s.", timeout_s=timeout_s)
        if self.error is not None:
            raise again(self.error) if isinstance(self.error, ZStreamPubError) else self.error
        return self

    @property
    def is_running(self):
        return not self._ended.is_set

    @property
    def offset(self):
        """Where a subscription would go on: all below was handed over. None before that, and for other sources."""
        place = self._place if self._loop is None else self._loop.place
        return None if place is None else place[0]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.shutdown()

    # --- callbacks -----------------------------------------------------------------------

    @property
    def callback(self):
        """The callback for what matches the source's patterns; another takes its place with the next message."""
        return self._routes.callback

    @callback.setter
    def callback(self, callback):
        if callback is not None and not callable(callback):
            raise InvalidOption(f"callback is a function, not {callback!r:.60}.", option="callback")
        if self.is_running and (is_store(callback) or is_store(self._routes.callback)):
            raise InvalidOption("A store takes the place of a callback, and a callback that of a store, while the "
                                "receiver does not run: shutdown() first.", option="callback")
        self._routes.replace(callback)
        self._wake()

    def subscribe(self, pattern, callback):
        """Call *callback* as well for messages that match *pattern*; while it runs, too.

        A pattern that the source was not asked for begins where the receiver is: with the first message that was
        not handed over yet. Raises InvalidTopic, InvalidOption.
        """
        if not self._source.has_topics:
            raise InvalidOption("Patterns are for topics, and a ZeroMQ socket's messages have none: give the receiver "
                                "one callback.", option="pattern")
        if is_store(self._routes.callback):
            raise InvalidOption("A receiver that hands over to a store has no other callbacks: make one for them.",
                                option="callback")
        self._routes.add(pattern, callback)
        self._wake()

    def unsubscribe(self, pattern, callback=None):
        """Undo :meth:`subscribe`, without *callback* for all callbacks of *pattern*. Raises RequestError."""
        self._routes.remove(pattern, callback)
        self._wake()

    def _wake(self):
        loop = self._loop
        if loop is not None:
            loop.feed.wake()

    # --- where it runs ---------------------------------------------------------------------

    def _launch(self):
        raise NotImplementedError

    def _is_inside(self):
        """Whether the caller is a callback of this receiver."""
        raise NotImplementedError

    def _live(self, make_feed):
        """Run once, from beginning to end; in the receiver's greenlet or thread."""
        try:
            self.error = self._run(make_feed())
        except gevent.GreenletExit:
            pass        # somebody has killed the greenlet
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise
            logger.exception("a receiver has ended with an error that nobody was asked about")
        finally:
            self._loop = None
            self._ended.set()
            self._opened.set()      # or it never will be

    def _run(self, feed):
        try:
            loop = Loop(feed, self._source, self._routes, self._judge, self._on_gap, self._place, self._opened.set)
            self._loop = loop
            loop.is_stopping = self._is_stopping    # it may have come before
            callback = self._routes.callback
            try:
                if is_store(callback):
                    mark, memory = self._source.mark(self._name), memory_of(self._filter, callback, self._name)
                    return loop.run(HandOver(callback, mark, memory, self._filter, loop))
                return loop.run(Calls(self._routes, self._filter, loop))
            finally:
                self._place = loop.place
        finally:
            feed.close()


class Receiver(Receiving):
    """Receives in a greenlet of the thread that starts it. A callback that blocks the whole thread holds up all of it.

    *source* is the address of a server (with ``patterns``, ``start`` and the other options of ``Client.subscribe``, or
    with ``consumer`` and those of ``Client.consume``), a :class:`Source`, a ZeroMQ socket, or an open
    subscription of a Client. ``callback(message)`` is called for each message; of a ZeroMQ socket, that is bytes, or a
    list of bytes where it has several frames. A FifoStore or LatestStore as *callback* holds each message once,
    whatever crashes: it keeps, as *name*, where to go on. ``filter(message)`` comes first: it returns
    what is to be handed over, or None.

    ``on_exception(error, message)`` returns "stop", "skip" or "retry"; *message* is None where the connection or the
    source is in trouble. A gap goes to ``on_gap(error)``, a GapError, or else to *on_exception*, without a message.
    ``error`` says what has stopped it. See docs/receiving.rst.
    """

    _greenlet = None
    _thread = None

    def shutdown(self):
        if self._thread not in (None, thread_id()):
            raise RequestError("A Receiver belongs to the thread that has started it; a ThreadedReceiver to none.")
        super().shutdown()

    shutdown.__doc__ = Receiving.shutdown.__doc__

    def _launch(self):
        self._thread = thread_id()
        self._greenlet = gevent.spawn(self._live, self._source.feed)

    def _is_inside(self):
        return gevent.getcurrent() is self._greenlet


class ThreadedReceiver(Receiving):
    """As :class:`Receiver`, in a native thread: for programs that know nothing of gevent, and for callbacks that block.

    The callback runs in a plain native thread, one message after the other; the network is served by another.
    Works in monkey-patched programs, too. Whatever thread may start it, and shut it down.
    """

    _thread = None

    def __init__(self, source, callback=None, on_exception=None, **options):
        super().__init__(source, callback, on_exception, **options)
        self._source.check_native()

    def _launch(self):
        start_thread(self._live_here, ())

    def _live_here(self):
        self._thread = thread_id()
        try:
            self._live(self._source.native_feed)
        finally:
            end_hub()       # a callback may have used gevent

    def _is_inside(self):
        return thread_id() == self._thread
