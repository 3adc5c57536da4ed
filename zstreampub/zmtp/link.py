"""Links: connected sockets that speak ZMTP, and the drain, the greenlet that reads them.

All of it runs on the hub: no thread in between, which would have to be woken for each message, twice.
"""

import _socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from typing import NamedTuple

import gevent
from gevent.hub import Waiter

from .frames import SCRATCH_BYTES, BrokenProtocol, Inbox, frame_head, hello, ping

_JOIN_BYTES = 16 << 10      # up to here a copy is cheaper than a list of parts
_GATHERED_BYTES = 64 << 10  # small frames that are sent together, at the most
_MOST_PARTS = 64            # given to the system in one call
_TURN_READS = 16            # of one link, while the rest of a large frame is there; then it is the others' turn
_READ, _WRITE = 1, 2
_SIOCOUTQ = 0x5411          # Linux: how many bytes the peer's system has not acknowledged


class PeerGone(Exception):
    """The peer has disconnected."""


class Told(NamedTuple):
    """What is told of links: functions, all but *emptied* called in the drain.

    ``ready(link)``: hands are shaken; ``receive(link.id, blob)``: a message has come, *blob* is a view that is good
    during the call; ``ended(link, why)``: the connection is no more, and not by :meth:`Link.close`;
    ``emptied(link)``: what waited has been sent.
    """

    ready: Callable
    receive: Callable
    ended: Callable
    emptied: Callable


class Drain:
    """The greenlet in which links are read, one at a time; ``receive`` of their owners may even wait."""

    def __init__(self):
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._bell = Waiter()       # rung in the hub only; it switches to the greenlet at once, as no Event does
        self._is_busy = self._is_closed = False
        self._paused = []
        self._task = gevent.spawn(self._run)

    def wake(self, link):
        """Read *link* (called in the hub)."""
        if self._is_busy:       # it waits for something in the middle of a message
            link.pause()
            self._paused.append(link)
        else:
            self._bell.switch(link)

    def link(self, callback):
        """Call *callback* if the greenlet ends; it does so by :meth:`close` or by a bug in ``receive``."""
        self._task.link(callback)

    def close(self):
        """Read nothing any more. Whoever closes it from within ``receive`` is not interrupted."""
        self._is_busy = self._is_closed = True
        if gevent.getcurrent() is not self._task:
            self._task.kill(block=False)

    def _run(self):
        while not self._is_closed:
            link = self._bell.get()
            self._bell.clear()
            self._is_busy = True
            link.read()
            while self._paused:
                self._paused.pop().resume()
            self._is_busy = self._is_closed


class Link:
    """Speaks ZMTP on *sock*, connected and owned by it from now on, as a socket of a *kind*, "ROUTER" or "DEALER".

    *told*, a Told, says whom to tell what comes. ``malformed`` counts messages that are none of ours,
    and one for a peer that breaks the protocol.
    """

    __slots__ = ("id", "malformed", "heard", "_socket", "_told", "_drain", "_inbox", "_loop", "_turn", "_gathered",
                 "_gathered_bytes", "_unsent", "_reading", "_writing", "_closed", "_is_broken")

    def __init__(self, sock, kind, told, drain, max_frame_bytes, id=None):
        sock.setblocking(False)
        if sock.family != _socket.AF_UNIX:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.id = id
        self.malformed = 0
        self.heard = False          # whether anything has come since somebody has set this to False
        self._socket = sock
        self._told = told
        self._drain = drain
        self._inbox = Inbox(kind, drain.scratch, max_frame_bytes, self._answer)
        self._loop = loop = gevent.get_hub().loop
        self._turn = -1             # of the loop, in which a frame was sent last
        self._gathered: list = []   # frames that leave together when it is over
        self._gathered_bytes = 0
        self._unsent = deque()      # what the system has not taken
        self._closed = self._is_broken = False
        self._writing = loop.io(sock.fileno(), _WRITE)
        self._reading = loop.io(sock.fileno(), _READ)
        self._reading.start(drain.wake, self)
        self._put(hello(kind))

    @property
    def is_ready(self):
        """Whether the peer has shaken hands."""
        return self._inbox is not None and self._inbox.is_ready

    @property
    def is_full(self):
        """Whether something waits for the system to take it."""
        return bool(self._unsent)

    def send(self, *parts):
        """Send *parts* as one frame, or keep them until the system takes them. Raises PeerGone.

        The first in a turn of the loop leaves at once, small ones after it together at the end of the turn.
        """
        size, turn = sum(map(len, parts)), self._loop.iteration
        if size >= _JOIN_BYTES and len(parts) < _MOST_PARTS:
            self._flush()
            self._put(frame_head(size), *parts)
        elif turn == self._turn or self._gathered:
            self._gather(b"".join((frame_head(size), *parts)))
        else:
            self._turn = turn
            self._put(b"".join((frame_head(size), *parts)))
        if self._is_broken:
            raise PeerGone

    def ping(self):
        """Make the peer say something."""
        self._put(ping())

    def has_unread(self):
        """Tell whether something was received that has not been handed out yet."""
        try:
            return not self._closed and bool(self._socket.recv(1, _socket.MSG_PEEK))
        except OSError:
            return False

    def end(self):
        """Tell the peer the end, once what waits is sent; return whether its system has taken all that."""
        if self._is_broken:
            return True
        self._flush()
        if not self._unsent:
            with suppress(OSError):
                self._socket.shutdown(_socket.SHUT_WR)
        with suppress(OSError):     # not every system tells
            return not self._unsent and not any(ioctl(self._socket.fileno(), _SIOCOUTQ, bytes(4)))
        return not self._unsent

    def close(self):
        """Close the socket; what waits is dropped, and the owner is told nothing any more."""
        if not self._closed:
            self.abandon()
            self._writing.close()
            self._reading.close()
            self._socket.close()

    def abandon(self):
        """Let go of the socket without touching it: in the child of a fork it is still the parent's."""
        if self._closed:
            return
        self._closed = self._is_broken = True
        self._inbox = None          # it holds on to us, and to what has come of a large frame
        self._unsent.clear()
        self._writing.stop()
        self._reading.stop()

    # --- in ---------------------------------------------------------------------------------

    def pause(self):
        """Leave what comes where it is."""
        self._reading.stop()

    def resume(self):
        """Undo :meth:`pause`."""
        if not self._closed:
            self._reading.start(self._drain.wake, self)

    def read(self):
        """Hand out what can be received now, or a part of it (called in the drain)."""
        inbox, was_ready = self._inbox, self.is_ready
        if inbox is None:       # it was closed before its turn
            return
        for _ in range(_TURN_READS):
            try:
                count = self._socket.recv_into(inbox.room())
                if not count:
                    self._end("the other side closed the connection")
                    return
                blobs = inbox.take(count)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(str(error))
                return
            except BrokenProtocol as error:
                self.malformed += 1
                self._end(str(error))
                return
            self.heard = True
            if not was_ready and inbox.is_ready:
                was_ready = True
                self._told.ready(self)
            self._hand_out(blobs)
            if self._closed or not inbox.is_short:
                return

    def _hand_out(self, blobs):
        receive, id = self._told.receive, self.id
        for blob in blobs:
            if self._closed:
                return
            if blob is None:
                self.malformed += 1
            else:
                receive(id, blob)

    def _end(self, why):
        if not self._closed:
            self.close()
            self._told.ended(self, why)

    # --- out --------------------------------------------------------------------------------

    def _gather(self, frame):
        if not self._gathered:
            self._loop.run_callback(self._flush)
        self._gathered.append(frame)
        self._gathered_bytes += len(frame)
        if self._gathered_bytes >= _GATHERED_BYTES:     # also one that is large, and in many parts
            self._flush()

    def _flush(self):
        if self._gathered:
            gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
            self._put(b"".join(gathered))

    def _answer(self, pong):
        """Send *pong*, unless something waits already: a peer that asks and does not read must not fill the memory."""
        if not self._unsent:
            self._put(pong)

    def _put(self, *parts):
        if self._is_broken:
            return
        if self._unsent:
            self._unsent += parts
            return
        try:
            sent = self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._break()
            return
        if sent < sum(map(len, parts)):
            self._unsent += parts
            self._sent(sent)
            self._writing.start(self._write)

    def _write(self):
        """Go on sending what waits (called in the hub)."""
        try:
            self._sent(self._socket.sendmsg([part for part, _ in zip(self._unsent, range(_MOST_PARTS))]))
        except BlockingIOError:
            return
        except OSError:
            self._break()
            return
        if not self._unsent:
            self._writing.stop()
            self._told.emptied(self)

    def _sent(self, count):
        """Take *count* bytes off what waits."""
        unsent = self._unsent
        while unsent and count >= len(unsent[0]):
            count -= len(unsent.popleft())
        if count:
            unsent[0] = memoryview(unsent[0])[count:]

    def _break(self):
        """Sending has failed. The drain will find the end, for whoever sends is in the middle of something."""
        self._is_broken = True
        self._unsent.clear()
        self._writing.stop()
        with suppress(OSError):
            self._socket.shutdown(_socket.SHUT_RDWR)
