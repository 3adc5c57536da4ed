"""Router: exchanges messages with everybody who connects, as a ZeroMQ ROUTER does with DEALERs and REQs."""

import _socket
import errno
import logging
import os
from time import monotonic
from weakref import WeakSet

import gevent

from .endpoints import forget, listen
from .link import Drain, Link, PeerGone, Told

logger = logging.getLogger(__name__)

_KEEPIDLE = getattr(_socket, "TCP_KEEPIDLE", 0x10)      # macOS has it by another name
_HANDSHAKE_S = 30           # as ZeroMQ has it
_LOOK_S = 5                 # how often it is looked for who is late with it
_REST_S = 0.2               # for which nobody is accepted when the process or the system has no more descriptors
_ACCEPTS = 64               # in a turn
_FLUSH_S = 0.005
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_all: WeakSet = WeakSet()


class Router:
    """Listens where it is bound, to frames of at most *max_frame_bytes*.

    ``receive(peer, blob)`` is called for each message, in the drain, and should not wait: *peer* is bytes, the name of
    the connection, *blob* a view that is good during the call. ``left(peer)`` is called when one has ended, and
    ``emptied(peer)`` when one that was full has room again. *probes* are the seconds of silence after which, and then
    between which, a peer's machine is asked whether it is still there.
    """

    def __init__(self, receive, left, emptied, max_frame_bytes, probes):
        self.endpoints = []
        self._left = left
        self._told = Told(self._ready, receive, self._ended, lambda link: emptied(link.id))
        self._max_frame_bytes = max_frame_bytes
        self._probes = tuple(zip((_KEEPIDLE, _socket.TCP_KEEPINTVL), probes)) + ((_socket.TCP_KEEPCNT, 3),)
        self._drain = Drain()
        self._listening = []        # (socket, watcher)
        self._links = {}            # name -> Link
        self._strangers = {}        # link that has not shaken hands -> since when
        self._count = 0
        self._malformed = 0         # of those that have ended
        self._loop = gevent.get_hub().loop
        self._looking = self._loop.timer(_LOOK_S, _LOOK_S, ref=False)
        self._looking.start(gevent.spawn, self._look)
        _all.add(self)

    def bind(self, endpoint):
        """Listen at *endpoint*; return where, None if it is not an endpoint of ours. Raises OSError."""
        found = listen(endpoint)
        if found is None:
            return None
        sock, endpoint = found
        watcher = self._loop.io(sock.fileno(), 1)
        watcher.start(self._accept, sock, watcher)
        self._listening.append((sock, watcher))
        self.endpoints.append(endpoint)
        return endpoint

    @property
    def malformed(self):
        """How many messages came that were none of ours, and peers that broke the protocol."""
        return self._malformed + sum(link.malformed for link in self._links.values())

    def send(self, peer, *parts):
        """Send *parts* as one frame now and return True; return False if *peer* has not taken what was sent before.

        Never waits. Raises PeerGone if *peer* has left.
        """
        link = self._links.get(peer)
        if link is None:
            raise PeerGone
        if link.is_full:
            return False
        link.send(*parts)
        return True

    def link(self, callback):
        """Call *callback* if the drain ends; it does so by :meth:`close` or by a bug in ``receive``."""
        self._drain.link(callback)

    def close(self, linger_ms=0):
        """Accept nobody and receive nothing any more; wait at most *linger_ms* until all have what was sent; close."""
        for endpoint in self.endpoints:     # before somebody else can listen there
            forget(endpoint)
        self._deafen()
        ends = monotonic() + linger_ms / 1000
        while [link for link in self._links.values() if not link.end()] and monotonic() < ends:
            gevent.sleep(_FLUSH_S)
        self._drop()

    def abandon(self):
        """Close what the child of a fork has of all this: copies. The parent goes on."""
        self.endpoints.clear()      # a path is the parent's too
        self._deafen()
        self._drop()

    def _deafen(self):
        for sock, watcher in self._listening:
            watcher.stop()
            watcher.close()
            sock.close()
        self._listening.clear()
        self._looking.stop()
        self._looking.close()
        self._drain.close()

    def _drop(self):
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._strangers.clear()

    # --- who comes and goes ------------------------------------------------------------------

    def _accept(self, sock, watcher):
        try:
            for _ in range(_ACCEPTS):
                descriptor, _ = sock._accept()
                self._welcome(_socket.socket(fileno=descriptor))
        except OSError as error:
            if error.errno in _EXHAUSTED:
                watcher.stop()
                gevent.spawn(self._rest, error.strerror, sock, watcher)

    def _rest(self, why, sock, watcher):
        logger.warning("nobody can connect for now: %s", why)
        gevent.sleep(_REST_S)
        if (sock, watcher) in self._listening:
            watcher.start(self._accept, sock, watcher)

    def _welcome(self, sock):
        self._count += 1
        if sock.family != _socket.AF_UNIX:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            for option, value in self._probes:
                sock.setsockopt(_socket.IPPROTO_TCP, option, value)
        name = b"\0" + self._count.to_bytes(5, "big")
        link = self._links[name] = Link(sock, "ROUTER", self._told, self._drain, self._max_frame_bytes, name)
        self._strangers[link] = monotonic()

    def _ready(self, link):
        self._strangers.pop(link, None)

    def _look(self):
        late = monotonic() - _HANDSHAKE_S
        for link in [link for link, since in self._strangers.items() if since < late]:
            link.close()
            self._ended(link, "it did not shake hands")

    def _ended(self, link, why):
        logger.debug("connection %s ended: %s", link.id.hex(), why)
        self._malformed += link.malformed
        self._strangers.pop(link, None)
        del self._links[link.id]
        self._left(link.id)


def _leave_to_parent():
    for router in list(_all):
        router.abandon()


os.register_at_fork(after_in_child=_leave_to_parent)
