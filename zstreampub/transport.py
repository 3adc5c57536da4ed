"""One greenlet that drains one plain pyzmq ROUTER or DEALER socket.

Rules: the socket's file descriptor is edge-triggered, so after every send and
every receive somebody looks at ``EVENTS`` again, or the socket stalls. The drain
gives way to other events every few milliseconds (``gevent.sleep(0)`` would not:
it never polls). Nothing here knows what is in a frame.
"""

from time import perf_counter
from types import MethodType

import gevent
import zmq
from gevent.hub import Waiter

from .zmtp.link import PeerGone

_SEND = int(zmq.NOBLOCK)    # plain integers: combining zmq's own takes longer than looking at a socket
_SEND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)
_ZERO_COPY = 1 << 20        # below, a copy is cheaper: what pyzmq does not copy it frees in a thread, through the GIL
_TURN_S = 0.002             # how long one turn of the drain may hold the hub
_TURN_FRAMES = 32           # how often it looks at the clock
_SAFETY_S = 1.0             # a lost edge costs at most this; none was seen


class Transport:
    """Sends and receives ``[peer,] b"", blob`` messages on *socket*, which it owns from now on.

    ``receive(peer, blob)`` is called for each message, in the drain greenlet; it must
    not wait. *peer* is the ROUTER's identity of the sender, None on a DEALER; *blob* is
    a memoryview. Messages of another shape are counted in ``malformed`` and dropped.
    """

    def __init__(self, socket, receive):
        self.malformed = 0
        self._socket = socket
        self._receive = receive
        self._send = MethodType(zmq.backend.Socket.send, socket)    # zmq.Socket's own looks for more, each time
        self._is_router = socket.type == zmq.ROUTER
        self._bell = Waiter()       # rung in the hub only; it switches to the drain at once, as no Event does
        self._looking = False
        self._closed = False
        self._monitor = self._monitor_watcher = None
        self._loop = gevent.get_hub().loop
        self._watcher = self._loop.io(socket.getsockopt(zmq.FD), 1)
        self._watcher.start(self._bell.switch, None)
        self._safety = self._loop.timer(_SAFETY_S, _SAFETY_S, ref=False)     # a timeout for each wait would cost more
        self._safety.start(self._bell.switch, None)
        self._drain_task = gevent.spawn(self._drain)

    def send(self, peer, *parts):
        """Send *parts* as one frame now and return True; return False if the pipe to *peer* is full.

        Never waits. Raises PeerGone if a ROUTER's peer has left.
        """
        send, blob = self._send, b"".join(parts)
        try:
            if peer is not None:
                send(peer, _SEND_MORE)
            send(b"", _SEND_MORE)
            send(blob, _SEND, len(blob) < _ZERO_COPY)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise PeerGone from None
            raise
        finally:
            if not self._looking:
                self._look_again()
        return True

    def has_unread(self):
        """Tell whether something was received that has not been handed out yet."""
        if not self._is_readable():
            return False
        self._look_again()
        return True

    def watch_leaving(self, left):
        """Call *left* whenever a connection has broken: sending to its peer raises PeerGone from then on.

        ZeroMQ does not tell whose it was. *left* runs in the hub and must not wait.
        """
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._monitor_watcher = self._loop.io(self._monitor.getsockopt(zmq.FD), 1)
        self._monitor_watcher.start(self._take_leavings, left)
        self._take_leavings(left)       # ZeroMQ wakes only who has found nothing before

    def link(self, callback):
        """Call *callback* if the drain ends; it does so by :meth:`close` or by a bug in ``receive``."""
        self._drain_task.link(callback)

    def close(self, linger_ms=0):
        """Stop draining and close the socket; what cannot be sent within *linger_ms* is dropped."""
        self._closed = True     # the drain may be about to run once more before it is killed
        self._watcher.stop()
        self._watcher.close()
        self._safety.stop()
        self._safety.close()
        self._drain_task.kill(block=False)
        if self._monitor is not None:
            self._monitor_watcher.stop()
            self._monitor_watcher.close()
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket.close(linger=linger_ms)

    def abandon(self):
        """Let go of the socket without touching it: in the child of a fork it is still the parent's."""
        self._closed = True
        self._watcher.stop()
        self._safety.stop()
        self._drain_task.kill(block=False)

    def _take_leavings(self, left):
        some = False
        try:
            while True:     # its descriptor is edge-triggered too
                self._monitor.recv_multipart(_SEND)
                some = True
        except zmq.Again:
            pass
        if some:
            left()

    def _look_again(self):
        self._looking = True
        self._loop.run_callback(self._look)

    def _look(self):
        self._looking = False
        if not self._closed and self._is_readable():
            self._bell.switch(None)

    def _is_readable(self):
        return self._socket.get(_EVENTS) & _READABLE

    def _drain(self):
        while True:
            while self._drain_turn():
                gevent.idle(2)      # polls, unlike sleep(0); the highest priority never starves
            self._bell.get()
            self._bell.clear()

    def _drain_turn(self):
        """Receive until the socket is empty (return False) or the turn is over (return True)."""
        ends, frames = perf_counter() + _TURN_S, 1
        while perf_counter() < ends:
            for _ in range(frames):
                if self._closed:
                    return False
                try:
                    peer, blob = self._recv()
                except zmq.Again:
                    return False
                if blob is None:
                    self.malformed += 1
                else:
                    self._receive(peer, blob)
            if frames == 1 and (self._closed or not self._is_readable()):
                return False        # the usual case: one message, and no Again, which costs as much as receiving it
            frames = _TURN_FRAMES
        return True

    def _recv(self):
        recv = self._socket.recv
        peer = recv(_SEND) if self._is_router else None
        frame = recv(_SEND, False)
        if not frame.more:
            return peer, None
        empty, frame = frame, recv(_SEND, False)
        if not frame.more and not len(empty):
            return peer, frame.buffer
        while frame.more:
            frame = recv(_SEND, False)
        return peer, None
