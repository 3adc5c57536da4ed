"""All channels of a client, over one connection after another; and the one greenlet that keeps their time.

A channel belongs here from ``open`` to ``forget``. It has ``id``, ``frames()`` (what
opens it, each a tuple of its parts), ``on_event(name, args)``, ``on_lost(why)`` (return True to be opened again on
the next connection) and ``on_closed(error)``. Only the keeper greenlet replaces a connection.
"""

import os
import threading
from time import monotonic
from weakref import WeakSet

import gevent
from gevent import monkey
from gevent.event import Event

from .. import wire
from ..compression import ZSTD
from ..errors import ConnectionLost, InvalidPayload, MalformedRequest, RequestError
from .connection import Connection
from .timing import Backoff, Deadlines

_HOLD_S = 0.2               # how long a server that is about to stop is left alone
_LAST_READ_S = 0.02         # for what a lost connection has received
_STEADY_S = 5.0             # a connection that held this long was a good one
_NEVER = float("inf")

_all: WeakSet = WeakSet()
_process = os.getpid()      # kept, for whoever asks with each message

_thread_id = monkey.get_original("_thread", "get_ident")        # the patched one tells greenlets apart


def _in_child():
    global _process
    _process = os.getpid()
    for channels in list(_all):
        channels.abandon()


os.register_at_fork(after_in_child=_in_child)


class Channels:
    """Opens channels on the server at *addresses*, a list that is gone through in turn until one answers.

    ``on_up()`` is called whenever a connection has been made, before anything is sent on it, and
    ``on_ready()`` whenever ``can_send`` has become true and what waited here has been sent.
    """

    def __init__(self, addresses, heartbeat_s, on_up, zstd=None, verify=True):
        self.deadlines = Deadlines()
        self.zstd, self.verify = zstd, verify       # what readers do with batches
        self.format = {"format": "batch"} if zstd is None else {"format": "batch", "compression": [ZSTD]}
        self.malformed = 0
        self.reconnects = 0
        self.heartbeat_s = self.silence_s = heartbeat_s
        self._own_heartbeat_s = heartbeat_s
        self._owner = (_process, _thread_id())
        self._addresses = list(addresses)
        self._on_up = on_up
        self.on_ready = lambda: None
        self.elsewhere = None       # where else subscriptions may go, None: nowhere
        self._channels = {}         # id -> channel
        self._unsent = {}           # id -> channel, of those that the server has not been sent yet
        self._streams = {}          # stream -> None: those that have heartbeats
        self._prefix, self._count = os.urandom(8), 0
        self._closed = None         # the error for whoever comes after close()
        self._broken = None         # why the connection must go
        self._connection = None
        self._up_at = self._heard_at = self._connect_at = self._hold_until = 0.0
        self._beat_at = monotonic() + heartbeat_s
        self._backoff = Backoff()
        self._wake, self._wake_at = Event(), _NEVER     # _NEVER: the keeper is at work, a new time is news to it
        self._even_beat = False
        self.learn_heartbeat(heartbeat_s)
        self._connect()
        self._keeper = gevent.spawn(self._keep)
        self._keeper.link_exception(lambda _: self.close())
        _all.add(self)

    # --- what channels use ---------------------------------------------------------------

    def check_owner(self):
        """Raise RequestError in any thread or process but the one that made the client."""
        if self._owner != (_process, _thread_id()):
            raise RequestError("A Client works only in the thread and process that made it: make one in each "
                               f"(this is process {_process}, {threading.current_thread().name}).")

    def new_id(self):
        """Return the name of a new channel. The names sort in the order in which they were given."""
        self._count += 1
        return self._prefix + self._count.to_bytes(6, "big") + b"\0\0"

    @property
    def is_open(self):
        return self._closed is None

    @property
    def is_unused(self):
        """Whether nothing is open, or about to be."""
        return not self._channels

    @property
    def address(self):
        """Where the server is that is connected to, or is tried now."""
        return self._addresses[0]

    @property
    def server(self):
        """The server in an error's text."""
        return f"the server at {' or '.join(sorted(self._addresses))}"

    @property
    def is_up(self):
        return self._connection is not None and self._connection.up and self._broken is None

    @property
    def can_send(self):
        """Whether a channel that is opened now is sent now."""
        return self.is_up and not self._hold_until

    def open(self, channel, delay_s=0.0):
        """Send what opens *channel*, once there is a connection, and not before *delay_s*."""
        if self._closed is not None:
            channel.on_closed(self._closed)
            return
        self._channels[channel.id] = channel
        if delay_s:
            channel.not_before = monotonic() + delay_s
            self._due(channel.not_before)
        elif self.can_send:
            self._transmit(channel)
            return
        self._unsent[channel.id] = channel

    def send(self, channel, name, args):
        """Send an event on an open channel; nothing is sent for one that is not open on the server."""
        if self.is_up and channel.id in self._channels and channel.id not in self._unsent:
            self._connection.send(wire.answer(channel.id, self.new_id(), name, wire.pack(args)))

    def send_later(self, channel):
        """Send *channel* again, and what comes after it, when the server has had time to be replaced or to catch up."""
        if self._channels.pop(channel.id, None) is not None:
            # The old name is used up on this connection; the new one sorts in the same place.
            tries = int.from_bytes(channel.id[-2:], "big")
            channel.id = channel.id[:-2] + ((tries + 1) & 0xffff).to_bytes(2, "big")
            self._channels[channel.id] = self._unsent[channel.id] = channel
            self._hold_until = monotonic() + _HOLD_S
            self._due(self._hold_until)

    def forget(self, channel):
        """Close *channel* on this side: nothing more is sent or taken for it."""
        self._channels.pop(channel.id, None)
        self._unsent.pop(channel.id, None)
        self._streams.pop(channel, None)
        self.deadlines.discard(channel)

    def expire(self, entry):
        """Have ``entry.expire()`` called after ``entry.timeout_s``; return when, on the monotonic clock."""
        deadline = self.deadlines.add(entry)
        self._due(deadline)
        return deadline

    def beat(self, stream):
        """Send heartbeats on *stream*, and call it lost when the server sends none."""
        self._streams[stream] = None
        self._due(self._beat_at)

    def learn_heartbeat(self, heartbeat_s):
        """Take over the heartbeat that the server states."""
        if type(heartbeat_s) in (int, float) and heartbeat_s > 0:
            self.heartbeat_s = min(self._own_heartbeat_s, heartbeat_s)
            self.silence_s = 2 * heartbeat_s
            self._beat_at = min(self._beat_at, monotonic() + self.heartbeat_s / 2)
            self._due(self._beat_at)

    def close(self):
        """End every channel and free the socket; never waits."""
        if self._closed is not None:
            return
        self._closed = ConnectionLost("The client is closed.")
        _all.discard(self)      # in the child of a fork, its hub may be no more
        if self._connection is not None:
            self._connection.close()
        for channel in list(self._channels.values()):
            channel.on_closed(self._closed)
        self._wake.set()

    def abandon(self):
        """Let go in the child of a fork: the socket and what is under way belong to the parent."""
        self._closed = RequestError("This Client belongs to the parent process.")
        self._keeper.kill(block=False)
        if self._connection is not None:
            self._connection.abandon()

    # --- the connection -------------------------------------------------------------------

    def _connect(self):
        self._connection = Connection(self._addresses[0], self._own_heartbeat_s, self._receive,
                                      self._went_up, self._went_down, self._try_next_address)

    def _went_up(self):
        now = monotonic()
        self._up_at = self._heard_at = now
        self._hold_until = 0.0
        self._on_up()
        self._send_unsent(now)
        self.on_ready()
        self._wake.set()

    def _went_down(self, why):
        self._broken = self._broken or why
        self._wake.set()

    def _try_next_address(self):
        if len(self._addresses) > 1:
            self._went_down("it did not answer")

    def _receive(self, _, blob):
        self._heard_at = monotonic()
        try:
            header, name, args = wire.unpack_event(blob)
        except (MalformedRequest, InvalidPayload):
            self.malformed += 1
            return
        channel = self._channels.get(header.get("response_to"))
        if channel is not None:
            channel.on_event(name, args)

    def _transmit(self, channel):
        for parts in channel.frames():
            self._connection.send(*parts)

    def _send_unsent(self, now):
        """Send what waits, in the order in which it was asked for."""
        for id in sorted(self._unsent):
            channel = self._unsent[id]
            if getattr(channel, "not_before", 0.0) <= now:
                del self._unsent[id]
                self._transmit(channel)

    def _replace(self, now):
        """Throw the connection away, and tell every channel."""
        why, self._broken = self._broken, None
        connection, self._connection = self._connection, None
        ends = now + _LAST_READ_S
        while connection.has_unread and monotonic() < ends and self._closed is None:
            gevent.sleep(0.001)     # the drain's turn
        connection.close()
        if self._closed is not None:
            return
        self._addresses.append(self._addresses.pop(0))
        if self._up_at:
            self.reconnects += 1
            if now - self._up_at > _STEADY_S:
                self._backoff.reset()
        self._up_at = 0.0
        self._connect_at = monotonic() + self._backoff.pause_s()
        where = f"{connection.address}: {why}"
        kept = [channel for channel in list(self._channels.values()) if channel.on_lost(where)]
        self._unsent = {channel.id: channel for channel in kept if channel.id in self._channels}

    # --- the keeper -----------------------------------------------------------------------

    def _due(self, at):
        """Have the keeper look no later than *at*."""
        if at < self._wake_at:
            self._wake.set()

    def _keep(self):
        while self._closed is None:
            self._wake.clear()
            self._wake_at = wake_at = self._tick(monotonic())
            self._wake.wait(max(wake_at - monotonic(), 0) if wake_at != _NEVER else None)
            self._wake_at = _NEVER

    def _tick(self, now):
        """Do what is due; return when to look again."""
        if self._broken is not None and self._connection is not None:
            self._replace(now)
        if self._connection is None and self._closed is None:
            if now < self._connect_at:
                return min(self._connect_at, self.deadlines.expire(now) or _NEVER)
            self._connect()
        wake_at = self.deadlines.expire(now) or _NEVER
        if self._hold_until and now >= self._hold_until:
            self._hold_until = 0.0
            if self.is_up:
                self._send_unsent(now)
                self.on_ready()
        if self.can_send and self._unsent:
            self._send_unsent(now)
            wake_at = min([wake_at, *(channel.not_before for channel in self._unsent.values())])
        if self._hold_until:
            wake_at = min(wake_at, self._hold_until)
        if self._streams:
            wake_at = min(wake_at, self._beat(now))
        return wake_at

    def _beat(self, now):
        """Send the heartbeats that are due, see who is silent; return when to come again."""
        if now >= self._beat_at:
            self._beat_at = now + self.heartbeat_s / 2
            self._even_beat = not self._even_beat
            for stream in list(self._streams):
                if self._even_beat:
                    self.send(stream, wire.HEARTBEAT, (0,))
                self._check_silence(stream, now)
        return self._beat_at

    def _check_silence(self, stream, now):
        if not stream.heard_at or now - stream.heard_at <= self.silence_s:
            return
        if not self.is_up or self._connection.has_unread:
            return      # what was received is looked at before anybody is called lost
        if now - self._heard_at > self.silence_s:
            self._went_down(f"nothing was heard for {self.silence_s} s")
        else:
            stream.on_lost(f"the stream was silent for {self.silence_s} s")
            self.forget(stream)


