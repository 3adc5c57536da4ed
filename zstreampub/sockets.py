"""Sockets: where a server listens, in the place of what zerorpc.Server calls its events.

At tcp and ipc endpoints that is a Router of ours; libzmq is opened only for what else there is.
"""

import errno

import gevent
import zmq
from zerorpc.events import Events

from .errors import BindError
from .transport import Transport
from .zmtp.router import Router

_PIPE_FRAMES = 1_000            # that wait for one peer inside libzmq, then its pipe is full
_PROBE_AFTER_S = 30             # of silence: whether the machine of an idle connection is still there (Linux: 2 h)
_PROBE_EVERY_S = 10


class Sockets(Events):
    """What a lane is served by.

    A Router of ours for tcp and ipc endpoints. A plain pyzmq ROUTER is opened for any other endpoint, for
    ``connect``, and for all that comes after ``setsockopt``. zerorpc's own sender, receiver and dispatcher are never
    started.
    """

    recv_is_supported = False       # or ChannelMultiplexer starts its dispatcher
    emit_is_supported = True

    def __init__(self, context, max_frame_bytes):
        self._debug = False
        self._zmq_socket_type = zmq.ROUTER
        self._context = context
        self._max_frame_bytes = max_frame_bytes
        self._zmq = self._socket = None
        self._attach = self._router = None
        self._has_options = False
        self.closed = False
        self.endpoints: list[str] = []

    def serve(self, attach):
        """Hand what comes to the lane: ``attach(make)`` is :meth:`Lane.attach`."""
        self._attach = attach
        self._router = attach(lambda lane, receive: Router(
            receive, lane.left, lane.emptied, self._max_frame_bytes, (_PROBE_AFTER_S, _PROBE_EVERY_S)))

    def bind(self, endpoint, resolve=True):
        for one in self._resolve_endpoint(endpoint, resolve):
            bound = None if self._has_options else self._router.bind(one)
            if bound is None:
                self._open_socket().bind(one)
                bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
            self.endpoints.append(bound)

    def connect(self, endpoint, resolve=True):
        self._open_socket()
        return super().connect(endpoint, resolve)

    def setsockopt(self, *args):
        self._has_options = True
        return self._open_socket().setsockopt(*args)

    def close(self):
        """End the ZeroMQ context, if there is one; waits outside the hub for what is still being sent."""
        if not self.closed:
            self.closed = True
            if self._socket is not None:
                self._socket.close(linger=0)
                gevent.get_hub().threadpool.apply(self._zmq.term)

    def _open_socket(self):
        if self._socket is None:
            self._zmq = zmq.Context()
            socket = self._socket = self._zmq.socket(zmq.ROUTER)
            for option, value in ((zmq.ROUTER_MANDATORY, 1), (zmq.MAXMSGSIZE, self._max_frame_bytes),
                                  (zmq.SNDHWM, _PIPE_FRAMES), (zmq.TCP_KEEPALIVE, 1),
                                  (zmq.TCP_KEEPALIVE_IDLE, _PROBE_AFTER_S),
                                  (zmq.TCP_KEEPALIVE_INTVL, _PROBE_EVERY_S), (zmq.TCP_KEEPALIVE_CNT, 3)):
                socket.setsockopt(option, value)
            self._attach(lambda lane, receive: lane.watched(Transport(socket, receive)))
        return self._socket


def bind_all(server, endpoints):
    """Have *server* listen on *endpoints*. Raises BindError."""
    for endpoint in endpoints:
        try:
            server.bind(endpoint)
        except (zmq.ZMQError, OSError) as error:
            hint = " Is another server running there?" if error.errno == errno.EADDRINUSE else ""
            raise BindError(f"Cannot bind {endpoint}: {error.strerror or error}.{hint}") from error
