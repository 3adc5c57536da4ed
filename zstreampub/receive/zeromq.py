"""Plain ZeroMQ sockets as a receiver reads them, and as a bridge sends on them: the door to pyzmq.

A socket belongs to one thread at a time: to the receiver's, while it runs. Its file descriptor is edge-triggered:
whoever waits for it looks at the socket itself before and after. A message of one frame is bytes, one of
several a list of bytes.
"""

import os
from contextlib import contextmanager, suppress

import gevent
import zmq
from gevent.event import Event

from ..errors import BindError, ConnectionLost, InvalidOption
from ..threads.waits import allocate_lock
from .feed import TAKE_BYTES

TAKE_MESSAGES = 1000
KINDS = {"SUB": zmq.SUB, "PULL": zmq.PULL, "PAIR": zmq.PAIR, "PUB": zmq.PUB, "PUSH": zmq.PUSH}
READABLE = ("SUB", "PULL", "PAIR")
_SAFETY_S = 1.0             # a lost edge costs at most this
_LINGER_MS = 2000           # the longest that closing waits for a peer to take what was sent


def is_socket(source):
    """Tell whether *source* is a ZeroMQ socket."""
    return isinstance(source, zmq.Socket)


def is_green(socket):
    """Tell whether *socket* is one of ``zmq.green``, which belongs to a hub."""
    return type(socket).__module__.startswith("zmq.green")


def name_of(kind):
    """Return the name of a type of socket that a receiver reads, of ``zmq.SUB`` or "SUB". Raises InvalidOption."""
    for name in READABLE:
        if kind in (name, KINDS[name]):
            return name
    raise InvalidOption(f"A receiver reads from a socket of type {', '.join(READABLE)}, not {kind!r}.", option="kind")


class OpenSocket:
    """A socket of *kind* that is bound or connected to *address*. Raises BindError, InvalidOption."""

    def __init__(self, kind, address, bind=False, subscriptions=(), high_water_mark=None):
        self._context = zmq.Context()
        self.socket = self._context.socket(KINDS[kind])
        try:
            if high_water_mark is not None:
                self.socket.set_hwm(high_water_mark)
            if kind == "PUSH":
                self.socket.setsockopt(zmq.IMMEDIATE, 1)    # nothing is queued for a peer that is not there yet
            for prefix in subscriptions if kind == "SUB" else ():
                self.socket.setsockopt(zmq.SUBSCRIBE, prefix.encode() if isinstance(prefix, str) else prefix)
            (self.socket.bind if bind else self.socket.connect)(address)
        except zmq.ZMQError as error:
            self.close()
            if bind:
                raise BindError(f"A {kind} socket cannot listen on {address}: {error}.") from error
            raise InvalidOption(f"A {kind} socket cannot connect to {address!r}: {error}.") from error

    @property
    def address(self):
        """Where it listens or is connected to; a port that was ``*`` is a number here."""
        return _option(self.socket, zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    def close(self, linger_ms=0):
        self.socket.close(linger=linger_ms)
        self._context.term()


class SocketFeed:
    """A feed, see :mod:`zstreampub.receive.feed`, of *socket*, or of what *make* opens; it closes only the latter.

    *waiting* makes how to wait: Green on a hub, Native in a thread. ``take`` returns at most TAKE_MESSAGES
    messages and little more than TAKE_BYTES.
    """

    place = None

    def __init__(self, waiting, socket=None, make=None):
        self._theirs, self._make = socket, make
        self._own = None
        self._socket = None
        self._new_waiting = waiting
        self._waiting = waiting()

    def open(self, patterns, place):
        """Begin to read."""
        if patterns:
            raise InvalidOption("A ZeroMQ socket's messages have no topics: patterns are for a server's.",
                                option="patterns")
        if self._socket is None:
            if self._theirs is None:
                self._own = self._make()
            socket = self._own.socket if self._theirs is None else self._theirs
            with _translated():
                self._waiting.watch(socket)
            self._socket = socket

    def take(self):
        with _translated():
            while not self._waiting.was_woken():
                taken = self._take_some()
                if taken:
                    return taken
                self._waiting.wait(None)
        return []

    def wake(self):
        self._waiting.wake()

    stop = wake

    def pause(self, seconds):
        self._waiting.pause(seconds)

    def close(self):
        self._waiting.close()
        self._socket = None
        if self._own is not None:
            self._own.close()
            self._own = None

    def _take_some(self):
        taken, size, receive = [], 0, self._socket.recv_multipart
        try:
            while size < TAKE_BYTES and len(taken) < TAKE_MESSAGES:
                frames = receive(zmq.NOBLOCK)
                size += sum(map(len, frames))
                taken.append(frames[0] if len(frames) == 1 else frames)
        except zmq.Again:
            pass
        except zmq.ZMQError:
            if not taken:
                raise
        return taken


@contextmanager
def _translated():
    try:
        yield
    except zmq.ZMQError as error:
        raise ConnectionLost(f"The ZeroMQ socket cannot be read: {error}. Was it closed?") from error


def _option(socket, name):
    return socket.getsockopt(name)


class Green:
    """How a greenlet waits for a socket, and is woken by others of its hub."""

    def __init__(self):
        self._changed = Event()
        self._is_woken = False
        self._watcher = self._socket = None

    def watch(self, socket):
        self._socket = socket
        self._watcher = gevent.get_hub().loop.io(socket.getsockopt(zmq.FD), 1)
        self._watcher.start(self._changed.set)

    def wait(self, seconds):
        self._changed.clear()
        if not self._is_woken and not _option(self._socket, zmq.EVENTS) & zmq.POLLIN:
            self._changed.wait(_SAFETY_S if seconds is None else seconds)

    def was_woken(self):
        woken, self._is_woken = self._is_woken, False
        return woken

    def wake(self):
        self._is_woken = True
        self._changed.set()

    def pause(self, seconds):
        with gevent.Timeout(seconds, False):
            while not self._is_woken:
                self._changed.clear()
                self._changed.wait()
        self._is_woken = False

    def close(self):
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None


class Native:
    """How a native thread waits for a socket, and is woken by any other thread: both in ZeroMQ's own poll."""

    def __init__(self):
        self._gate = allocate_lock()
        self._bell, self._hammer = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._hammer, False)
        self._poller = zmq.Poller()
        self._poller.register(self._bell, zmq.POLLIN)
        self._pause = zmq.Poller()
        self._pause.register(self._bell, zmq.POLLIN)

    def watch(self, socket):
        self._poller.register(socket, zmq.POLLIN)

    def wait(self, seconds):
        self._poller.poll(None if seconds is None else seconds * 1000)

    def was_woken(self):
        try:
            return bool(os.read(self._bell, 4096))
        except BlockingIOError:
            return False

    def wake(self):
        with self._gate, suppress(BlockingIOError):     # full of rings: it will be heard
            if self._hammer is not None:
                os.write(self._hammer, b"!")

    def pause(self, seconds):
        self._pause.poll(seconds * 1000)
        self.was_woken()

    def close(self):
        with self._gate:
            hammer, self._hammer = self._hammer, None
            if hammer is not None:
                os.close(hammer)
                os.close(self._bell)


class Sender:
    """Sends on a PUB, PUSH or PAIR socket, from one greenlet.

    PUB drops for a peer that is slow (its high-water mark is ZeroMQ's, 1,000 messages, unless given); on the others
    :meth:`send` waits for room.
    """

    def __init__(self, kind, address, bind=False, high_water_mark=None):
        self._open = OpenSocket(kind, address, bind, high_water_mark=high_water_mark)
        self._watcher = gevent.get_hub().loop.io(self._open.socket.getsockopt(zmq.FD), 1)
        self._changed = Event()
        self._watcher.start(self._changed.set)

    @property
    def address(self):
        return self._open.address

    def send(self, frames):
        """Hand a message over to ZeroMQ."""
        socket = self._open.socket
        while True:
            self._changed.clear()
            try:
                socket.send_multipart(frames, zmq.NOBLOCK)
                return
            except zmq.Again:
                if not _option(socket, zmq.EVENTS) & zmq.POLLOUT:
                    self._changed.wait(_SAFETY_S)
            except zmq.ZMQError as error:
                raise ConnectionLost(f"The ZeroMQ socket cannot be written: {error}.") from error

    def close(self):
        """Close it; what was sent and not taken yet is waited for, at most 2 s."""
        self._watcher.stop()
        self._watcher.close()
        self._open.socket.setsockopt(zmq.LINGER, _LINGER_MS)
        gevent.get_hub().threadpool.apply(self._open.close, (_LINGER_MS,))
