"""Receivers that cost as little as can be, for measuring what a server's processes could do: nothing is decoded.

Each subscriber has a connection of its own, goes where the server sends it, and checks that no message is missing.
"""

from time import monotonic, perf_counter

import gevent
import msgpack
import zmq

from zstreampub import wire
from zstreampub.client.elsewhere import seen_from
from zstreampub.message import Batch

from .lean import LeanClient
from .payloads import BATCH, payload

BYTES = 136         # of a message: a batch of 1,000 fills one frame, however busy the server is

_GRANT_ITEMS = 8
_GRANT_BYTES = 256 * 1024
_WINDOW = 32
_BEAT_S = 2.0
_AHEAD = 60         # batches: less than the queues take that workloads/scale.py asks for
_POLL_MS = 5
_HEARTBEAT = wire.pack((0,))


def publish_and_drain(link, endpoint, subscribers, batches):
    """Publish batches and receive them with *subscribers* subscriptions, never more than a few ahead of the slowest.

    Returns when each has received all of the log.
    """
    client = LeanClient(endpoint)
    client.call("about")
    packed = [Batch.of("bench.scale", [payload(0, 0, number, BYTES) for number in range(BATCH)]).packed]
    with zmq.Context() as context:
        poller = zmq.Poller()
        drains = {one.socket: one for one in (Drain(context, endpoint) for _ in range(subscribers))}
        for socket in drains:
            poller.register(socket, zmq.POLLIN)
        link.ready()
        link.go()
        began, beat_at, published, slowest = perf_counter(), monotonic() + _BEAT_S, 0, 0
        while slowest < batches * BATCH:
            while published < min(slowest // BATCH + _AHEAD, batches):
                client.post("append", (packed,), _nothing)
                published += 1
            gevent.idle()       # the client's turn
            for socket, _ in poller.poll(_POLL_MS):
                drains[socket].take(socket.recv_multipart()[-1])
            slowest = min(one.next for one in drains.values())
            if monotonic() > beat_at:
                beat_at = monotonic() + _BEAT_S
                for one in drains.values():
                    one.say(wire.HEARTBEAT, _HEARTBEAT)
        ended = perf_counter()
        for socket in drains:
            socket.close(0)
    return {"began": began, "ended": ended}


class Drain:
    """One subscription, open when it is made; ``next`` is the offset that comes next."""

    def __init__(self, context, endpoint):
        self.next = 0
        self._ids = self._used = self._used_bytes = 0
        self.socket = self._open(context, endpoint, {"format": "batch", "movable": True})
        item = self._receive()
        if item["control"] == "moved":
            self.socket.close(0)
            self.socket = self._open(context, seen_from(endpoint, item["endpoints"]), {"format": "batch"})
            item = self._receive()
        if item["control"] != "subscribed" or item["offset"] != self.next:
            raise RuntimeError(f"the subscription began with {item}")

    def say(self, name, packed_args):
        self._ids += 1
        self.socket.send_multipart([b"", wire.answer(b"drain", b"%d" % self._ids, name, packed_args)])

    def take(self, blob):
        """Take an event."""
        _, name, item = msgpack.unpackb(blob)
        if name == wire.HEARTBEAT:
            return
        if name != wire.STREAM or type(item) is dict:
            raise RuntimeError(f"there came {item}")
        for part in item[1:]:
            batch = Batch.parse(part)
            if batch.first != self.next:
                raise RuntimeError(f"offset {batch.first} came where {self.next} belongs")
            self.next = batch.next
        self._used += 1
        self._used_bytes += len(blob)
        if self._used >= _GRANT_ITEMS or self._used_bytes >= _GRANT_BYTES:
            self.say(wire.MORE, wire.pack((self._used,)))
            self._used = self._used_bytes = 0

    def _open(self, context, endpoint, options):
        socket = context.socket(zmq.DEALER)
        socket.set_hwm(0)
        socket.connect(endpoint)
        socket.send_multipart([b"", wire.request(b"drain", "subscribe", (">", options))])
        self.socket = socket
        self.say(wire.MORE, wire.pack((_WINDOW,)))
        return socket

    def _receive(self):
        return msgpack.unpackb(self.socket.recv_multipart()[-1])[2]


def _nothing(*_):
    pass
