"""One DEALER socket, connected once: frames in and out, and word of when it is up and when it is down.

A connection that was up and is lost is thrown away with everything in it, so nothing
old is sent later by libzmq behind our back; until it is up, libzmq goes on trying, with
growing pauses. Whoever uses it sends nothing before it is up. Nothing here waits.
"""

import os

import gevent
import zmq
from zmq.utils.monitor import parse_monitor_message

from ..errors import InvalidOption
from ..transport import Transport

_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 2000
_CONNECT_TIMEOUT_MS = 5000
_MAX_SOCKETS = 65_535
_EVENTS = (zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
           | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
           | zmq.EVENT_HANDSHAKE_FAILED_AUTH)

_contexts: dict = {}       # process id -> its Context: one that came through a fork hangs


class Connection:
    """A connection to *address*; *receive*, *on_up*, *on_down* and *on_retry* are called and must not wait.

    ``receive(None, blob)`` is called for each message, in the drain greenlet; ``on_up()`` once the
    server has shaken hands; ``on_down(why)`` when it is lost after that, or broken for good;
    ``on_retry()`` when one attempt to connect has failed. Raises InvalidOption for an address that libzmq
    does not take.
    """

    def __init__(self, address, heartbeat_s, receive, on_up, on_down, on_retry):
        self.address = address
        self.up = False
        self._on_up, self._on_down, self._on_retry = on_up, on_down, on_retry
        self._closed = False
        socket, self._monitor = _connect(address, heartbeat_s)
        self._socket = socket
        self._watcher = gevent.get_hub().loop.io(self._monitor.getsockopt(zmq.FD), 1)
        self._watcher.start(self._look)
        self._transport = Transport(socket, receive)
        self._transport.link(self._drain_ended)
        gevent.get_hub().loop.run_callback(self._look)      # what happened before the watcher started

    def send(self, blob):
        """Send *blob* now; the pipe of this socket has no limit, so it is always taken."""
        self._transport.send(None, blob)

    @property
    def has_unread(self):
        """Whether something was received that has not been handed out yet."""
        return self._transport.has_unread()

    def close(self):
        """Drop the connection and all that is under way on it. None of the callbacks is called again."""
        if self._closed:
            return
        self._closed = True
        self.up = False
        self._watcher.stop()
        self._watcher.close()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._transport.close()

    def abandon(self):
        """Let go of the socket without touching it, in the child of a fork."""
        self._closed = True
        self._watcher.stop()
        self._transport.abandon()

    def _look(self):
        """Read the monitor until it is empty: its descriptor is edge-triggered."""
        while not self._closed:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.Again:
                return
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.up = True
                self._on_up()
            elif self.up:
                self.up = False
                self._on_down("the server closed the connection, or it broke")
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self._on_retry()

    def _drain_ended(self, _):
        if not self._closed:
            self._on_down("its drain has failed")


def _connect(address, heartbeat_s):
    socket = _context().socket(zmq.DEALER)
    monitor = None
    try:
        beat_ms = max(int(heartbeat_s * 1000), 1)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RECONNECT_IVL, _RECONNECT_MS),
                              (zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS), (zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS),
                              (zmq.HEARTBEAT_IVL, beat_ms), (zmq.HEARTBEAT_TIMEOUT, 2 * beat_ms)):
            socket.setsockopt(option, value)
        monitor = socket.get_monitor_socket(_EVENTS)
        socket.connect(address)
    except (zmq.ZMQError, TypeError) as error:
        reason = zmq.strerror(error.errno) if isinstance(error, zmq.ZMQError) else error
        if monitor is not None:
            socket.disable_monitor()
            monitor.close(linger=0)
        socket.close(linger=0)
        raise InvalidOption(f"{address!r} is not an address to connect to ({reason}); one looks like "
                            "tcp://127.0.0.1:4242 or ipc:///run/log.sock.", address=address) from error
    return socket, monitor


def _context():
    """Return this process's ZeroMQ context: all clients share its one I/O thread."""
    process = os.getpid()
    if process not in _contexts:
        _contexts[process] = zmq.Context()
        _contexts[process].set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
    return _contexts[process]
