"""One connection to a server: frames in and out, and word of when it is up and when it is down.

A connection that was up and is lost is thrown away with everything in it; until it is up,
it goes on trying, with growing pauses. Whoever uses it sends nothing before it is up. Nothing here waits.
"""

import _socket
from contextlib import suppress

import gevent
from gevent import socket as resolving
from gevent.event import Event

from ..errors import InvalidOption
from ..zmtp.endpoints import parse
from ..zmtp.link import Drain, Link, PeerGone, Told
from .timing import Backoff

_CONNECT_TIMEOUT_S = 5.0    # for the connection, and then for the handshake
_SILENT_BEATS = 1           # then it is asked; after the next it is lost
_MAX_FRAME_BYTES = 1 << 30


class Connection:
    """A connection to *address*; *receive*, *on_up*, *on_down* and *on_retry* are called and must not wait.

    ``receive(None, blob)`` is called for each message, in the drain greenlet; ``on_up()`` once the
    server has shaken hands; ``on_down(why)`` when it is lost after that, or broken for good;
    ``on_retry()`` when one attempt to connect has failed. The server has to say something every *heartbeat_s*, and is
    asked to. Raises InvalidOption for an address that there cannot be.
    """

    def __init__(self, address, heartbeat_s, receive, on_up, on_down, on_retry):
        self.address = address
        self.up = False
        self._place = _place(address)
        self._on_up, self._on_down, self._on_retry = on_up, on_down, on_retry
        self._told = Told(self._ready, receive, self._ended, _nothing)
        self._closed = self._was_up = False
        self._link = None           # from when the server has accepted until the end
        self._decided = Event()     # the server has shaken hands, or the link has ended
        self._silent_beats = 0
        self._backoff = Backoff()
        self._drain = Drain()
        self._drain.link(self._drain_ended)
        self._timer = gevent.get_hub().loop.timer(heartbeat_s, heartbeat_s, ref=False)
        self._timer.start(self._beat)
        self._task = gevent.spawn(self._connect)

    def send(self, *parts):
        """Send *parts* as one frame now, or as soon as the system takes them.

        ``on_down`` follows if the connection has just broken.
        """
        with suppress(PeerGone):
            self._link.send(*parts)

    @property
    def has_unread(self):
        """Whether something was received that has not been handed out yet."""
        return self._link is not None and self._link.has_unread()

    def close(self):
        """Drop the connection and all that is under way on it. None of the callbacks is called again."""
        if not self._closed:
            self._drop()
            self.abandon()
            self._timer.close()

    def abandon(self):
        """Let go of the socket without touching it, in the child of a fork."""
        self._closed = True
        self.up = False
        self._timer.stop()
        self._task.kill(block=False)
        self._drain.close()
        if self._link is not None:
            self._link.abandon()

    # --- coming up and going down ---------------------------------------------------------

    def _connect(self):
        """Try until the server has shaken hands (a task of its own, as it waits)."""
        while True:
            self._decided.clear()
            with suppress(OSError):
                self._link = Link(_connected(self._place), "DEALER", self._told, self._drain, _MAX_FRAME_BYTES)
                self._decided.wait(_CONNECT_TIMEOUT_S)
            if self._was_up:
                return
            self._drop()
            self._on_retry()
            gevent.sleep(self._backoff.pause_s())

    def _drop(self):
        if self._link is not None:
            self._link.close()
            self._link = None

    def _ready(self, _):
        self.up = self._was_up = True
        self._decided.set()
        self._on_up()

    def _ended(self, _, why):
        self._link = None
        self._decided.set()
        if self.up:
            self.up = False
            self._on_down(why)

    def _beat(self):
        """See that the server is there; it is asked when it has said nothing of its own for a while."""
        if not self.up:
            return
        link = self._link
        if link.heard or link.has_unread():
            link.heard, self._silent_beats = False, 0
        elif self._silent_beats >= _SILENT_BEATS:
            link.close()
            self._ended(link, "nothing was heard from it")
        else:
            self._silent_beats += 1
            link.ping()

    def _drain_ended(self, _):
        if not self._closed:
            self._on_down("its drain has failed")


def _place(address):
    place = parse(address) if isinstance(address, str) else None
    if place is None or (isinstance(place, tuple) and not _is_there(*place)):
        raise InvalidOption(f"{address!r} is not an address to connect to; one looks like tcp://127.0.0.1:4242 or "
                            "ipc:///run/log.sock.", address=address)
    return place


def _is_there(host, port):
    """Tell whether there can be a *host* and a *port* like these to connect to."""
    with suppress(UnicodeError):
        return bool(host.encode("idna")) and host != "*" and port != 0
    return False


def _connected(place):
    """Return a socket that is connected to *place*, a gevent socket no more. Raises OSError."""
    with gevent.Timeout(_CONNECT_TIMEOUT_S, False):
        return _socket.socket(fileno=_green(place).detach())
    raise TimeoutError(f"it has not answered for {_CONNECT_TIMEOUT_S} s")


def _green(place):
    if isinstance(place, tuple):
        return resolving.create_connection(place)
    sock = resolving.socket(_socket.AF_UNIX)
    try:
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


def _nothing(_):
    pass
