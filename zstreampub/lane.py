"""The express lane of the server: frames in, frames out.

Publishes, acknowledgements, subscriptions, credit and heartbeats are served here, without a
greenlet of their own; every other method is handed on (``run_method``). A frame from the
network is hostile until it is checked, a channel belongs to the peer that opened it,
and a bad frame costs its sender an error and nobody else anything. This file talks to
the wire and decides nothing about messages.
"""

import logging
from functools import partial
from time import monotonic
from uuid import uuid4

import gevent

from . import requests, steering, wire
from .channels import Call, Channel, Peer, PublishCall, Stream
from .errors import InternalError, LimitExceeded, Moved, RequestError, ZStreamPubError
from .gather import Gatherer
from .handouts import open_feed
from .leavers import Leavers
from .outbound import Outbound
from .rounds import Rounds

logger = logging.getLogger(__name__)

_COMPLAIN_S = 10.0          # one log line about bad frames in this time
_MAX_CHANNELS = 65_536      # of one peer, and answers that it has not taken
_MAX_UNSENT_BYTES = 16 << 20    # of answers that wait for room in one peer's pipe


class Lane:
    """Serves *broker* (or None: only methods) to who comes by the transports that are attached.

    ``express`` has the names of the methods that the lane serves itself; ``run_method(peer, header,
    name, args)`` is called for each other request, and for publishes too while ``hooks.wanted``.
    Then ``hooks.before(peer, header, name, args)`` runs in a greenlet before a subscription opens,
    and returns what is to be called when it has ended.
    """

    def __init__(self, broker, settings, express, run_method, hooks):
        self.heartbeat_s = settings.heartbeat_s
        self.keepalive_s = settings.keepalive_s
        self.max_credit = settings.max_credit
        self.frames_in = self.bad_frames = self.stray_frames = self.lost_peers = 0
        self._settings = settings
        self._broker = broker
        self._express = express
        self._run_method = run_method
        self._gatherer = Gatherer(broker)
        self._hooks = hooks
        self._peers = {}
        self._outbound = Outbound(self._guard, self.lose, self.release)
        self.send, self.line_up, self.emptied = self._outbound.send, self._outbound.line_up, self._outbound.emptied
        self._id_base = uuid4().hex[8:].encode()
        self._ids = 0
        self._complained_at = -_COMPLAIN_S
        self._rounds = Rounds(self._peers, settings.heartbeat_s, self._guard)
        self.beat_s = self._rounds.beat_s
        leavers = Leavers(self._peers)
        self._somebody_left = leavers.somebody_left
        self._transports = []
        self._tasks = [gevent.spawn(task) for task in (self._outbound.run, self._rounds.run, leavers.run)]

    # --- in -------------------------------------------------------------------------------

    def attach(self, make):
        """Serve also who comes by the transport that ``make(lane, receive)`` returns; return it."""
        transport = make(self, partial(self._receive, len(self._transports)))
        self._transports.append(transport)
        return transport

    def _receive(self, number, identity, blob):
        self.frames_in += 1
        try:
            header, name, args = wire.unpack_event(blob)
        except RequestError as error:
            self._refuse(number, identity, error)
            return
        channel_id = header.get("response_to")
        peer = self._peers.get(identity)
        if channel_id is not None:
            channel = peer.channels.get(channel_id) if peer is not None else None
            if channel is None:
                self.stray_frames += 1
                return
            channel.seen = monotonic()
            if name == wire.MORE:
                channel.grant(wire.credit(args))
        elif name.startswith("_zpc_"):
            self.stray_frames += 1      # control of a channel that never was
        else:
            if peer is None:
                peer = self._peers[identity] = Peer(identity, self._transports[number])
            self._request(peer, header, name, args)

    def _request(self, peer, header, name, args):
        id = header["message_id"]
        if id in peer.channels or self._is_deaf(peer):
            self.bad_frames += 1        # an answer would end the channel that has this name, or never be read
            return
        if name not in self._express or (name != "subscribe" and self._hooks.wanted):
            self._run_method(peer, header, name, args)
        elif name == "subscribe":
            self._subscribe(peer, header, args)
        elif name in steering.SETTLING:
            self._settle(peer, id, name, args)
        else:
            self._publish(peer, id, name, args)

    def _publish(self, peer, id, name, args):
        call = PublishCall(self, peer, id)
        self.register(call)
        try:
            if name == "publish" and type(args) is list and len(args) == 2:
                self._gatherer.add(call, *args)
                return
            self._gatherer.flush()
            order = requests.parse_publishing(name, self._broker, args)
            call.result = order.result
            self._broker.submit(order, call.answer)
        except Exception as error:      # whatever it is, the caller hears of it
            call.fail(self._broker.report(error))

    def _settle(self, peer, id, verb, args):
        call = Call(self, peer, id)
        self.register(call)
        try:
            self._broker.consumers.settle(verb, *steering.parse_settling(verb, args), call.settled)
        except Exception as error:      # whatever it is, the caller hears of it
            call.fail(self._broker.report(error))

    def _subscribe(self, peer, header, args):
        stream = Stream(self, peer, header["message_id"])
        self.register(stream)
        if peer.streams > self._settings.max_subscriptions_per_client:
            most = self._settings.max_subscriptions_per_client
            stream.fail(LimitExceeded(f"This connection has {most} subscriptions already "
                                      "(max_subscriptions_per_client).", limit=most))
        else:
            gevent.spawn(self._open, stream, header, args)

    def _open(self, stream, header, args):
        """Open the subscription of *stream*; finding the start may wait for the store."""
        try:
            requests.check_arguments(requests.SUBSCRIBE_SIGNATURE, args)
            form, arguments = requests.parse_subscribe(*args)
            if self._hooks.wanted:
                stream.on_end = self._hooks.before(stream.peer, header, "subscribe", args)
            subscription = self._broker.subscribe(**arguments)
        except Moved as moved:
            stream.move(moved)
            return
        except BaseException as error:      # also a hook's SystemExit, which would end the process
            stream.fail(error if self._is_callers(error) else self._broker.report(error))
            return
        if stream.peer.channels.get(stream.id) is not stream:
            subscription.close()        # the client vanished while the start was looked for
            stream.lost()
            return
        stream.begin(open_feed(form, self._broker, subscription))

    def _is_deaf(self, peer):
        """Whether *peer* asks and does not read: what it would be answered must not fill our memory."""
        return len(peer.channels) + len(peer.unsent) >= _MAX_CHANNELS or self.has_no_room(peer)

    @staticmethod
    def has_no_room(peer):
        """Whether so much waits for *peer* to read that it gets no more answers of any size."""
        return peer.unsent_bytes > _MAX_UNSENT_BYTES

    def _is_callers(self, error):
        """Whether *error* goes to the caller as it is: ours, or one that a user's own hook raised."""
        return isinstance(error, ZStreamPubError) or self._hooks.wanted

    def _refuse(self, number, identity, error):
        self.bad_frames += 1
        reply_to = error.facts.get("reply_to")
        if reply_to is not None:
            peer = self._peers.get(identity) or Peer(identity, self._transports[number])
            if reply_to not in peer.channels and not self._is_deaf(peer):
                self._peers[identity] = peer
                Channel(self, peer, reply_to).fail(error)
                self.release(peer)
        now = monotonic()
        if now - self._complained_at >= _COMPLAIN_S:
            self._complained_at = now
            logger.warning("bad frame (%d so far) from peer %s: %s", self.bad_frames, identity.hex(), error)

    # --- who is there ----------------------------------------------------------------------

    def new_id(self):
        """Return a message id that was not used before."""
        self._ids += 1
        return b"%08x" % (self._ids & 0xFFFFFFFF) + self._id_base

    def register(self, channel):
        """File a channel that somebody else made."""
        channel.peer.channels[channel.id] = channel

    def release(self, peer):
        """Forget *peer* if nothing of it is left."""
        if not peer.channels and not peer.unsent:
            self._peers.pop(peer.id, None)

    def lose(self, peer):
        """Free all that belongs to *peer*: it is gone."""
        self.lost_peers += bool(peer.channels)
        self._outbound.forget(peer)
        for channel in tuple(peer.channels.values()):
            channel.close()
            channel.lost()
        self.release(peer)

    def watched(self, transport):
        """Have those who leave *transport*, which does not tell who they were, found out; return it."""
        transport.watch_leaving(self._somebody_left)
        return transport

    def left(self, id):
        """Learn that the peer *id* has left."""
        peer = self._peers.get(id)
        if peer is not None:
            self.lose(peer)

    def _guard(self, channel, step, *args):
        """Run *step* of *channel*; an unexpected error ends this channel and no other."""
        try:
            step(*args)
        except Exception as error:      # a bug of ours, or a value that a user's method should not have sent
            channel.fail(self._broker.report(error) if self._broker else InternalError(str(error)))

    # --- looking and ending ---------------------------------------------------------------

    def stats(self):
        """Return the lane's counters."""
        return {"frames_in": self.frames_in, "frames_out": self._outbound.frames,
                "bad_frames": self.bad_frames + sum(one.malformed for one in self._transports),
                "stray_frames": self.stray_frames,
                "lost_peers": self.lost_peers + self._rounds.lost,
                "peers": len(self._peers), "stuck_peers": self._outbound.stuck,
                "channels": sum(len(peer.channels) for peer in self._peers.values()),
                "hub_lag_us": self._rounds.hub_lag_us.summary()}

    def link(self, callback):
        """Call *callback* if a greenlet of the lane dies; none of them may."""
        for task in (*self._transports, *self._tasks):
            task.link(callback)

    def flush(self, timeout_s):
        """Wait until everything that can be sent was handed to the socket, at most *timeout_s*."""
        ends = monotonic() + timeout_s
        while not (self._outbound.is_idle and self._is_quiet()) and monotonic() < ends:
            gevent.sleep(0.01)

    def _is_quiet(self):
        return not any(peer.channels for peer in self._peers.values())

    def close(self, linger_ms=0):
        """Stop; every subscription of the lane is closed."""
        self._outbound.close()
        for task in self._tasks:
            task.kill(block=False)
        for transport in self._transports:
            transport.close(linger_ms)
        for peer in tuple(self._peers.values()):
            for channel in tuple(peer.channels.values()):
                channel.lost()
        self._peers.clear()

