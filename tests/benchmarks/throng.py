"""The processes of the workload with 10,000 subscriptions: as little client as can be, on plain sockets, no gevent.

A message is 100 bytes with its running number and the time at which it was due; number ``n`` goes to topic
``n % topics``, and subscription ``s`` is of topic ``s % topics``.
"""

import struct
from heapq import heappush, heapreplace
from random import random
from time import perf_counter, sleep

import msgpack
import zmq

from zstreampub import wire
from zstreampub.message import Batch

from .actors import percentiles
from .payloads import BYTES
from .stage import Caller

_DUE = struct.Struct(">Qd")
_BIN = b"\xc4" + bytes((BYTES,))    # msgpack: so many bytes follow
_LINGER_S = 0.002                   # the publisher sends what has come due this often, as a Producer does
_CALL_BATCHES = 1000                # in one call at most
_WINDOW = 100
_BEAT = wire.pack((0,))
_LATE_S = 30
_LOOK_BEHIND_S = 0.02               # how often the receiver looks for heartbeats that it owes


def topic_name(number):
    return f"throng.{number}"


def publish_dues(link, endpoint, topics, rate, messages):
    """Publish *messages* in all, *rate* a second, one a batch; never wait for one before the next is due."""
    names = [topic_name(number) for number in range(topics)]
    with Caller(endpoint) as caller:
        caller.call("about")
        link.ready()
        link.go()
        began, sent = perf_counter(), 0
        while sent < messages:
            due = min(int((perf_counter() - began) * rate) + 1, messages)
            while sent < due:
                more = min(due - sent, _CALL_BATCHES)
                caller.post("append", [[_packed(names[number % topics], number, began + number / rate)
                                        for number in range(sent, sent + more)]])
                sent += more
            caller.take(0)
            sleep(_LINGER_S)
        caller.wait(0)
    return {"began": began, "ended": perf_counter()}


def _packed(topic, number, due):
    return Batch.assemble(topic, [_BIN + _DUE.pack(number, due).ljust(BYTES)], {}).packed


def read_dues(link, endpoint, connections, subscriptions, topics, messages):
    """*subscriptions* in all, spread over *connections*: read what is published and check every message.

    Returns the latencies, and ``late_ms``: by how much the latest heartbeat of the server came after its promised
    interval.
    """
    began = perf_counter()
    throng = _Throng(endpoint, connections, subscriptions, topics)
    throng.turn_until(lambda: throng.greeted == subscriptions, _LATE_S)
    link.ready(joined_s=perf_counter() - began)
    wanted = sum(len(range(number % topics, messages, topics)) for number in range(subscriptions))
    began = perf_counter()
    throng.turn_until(lambda: len(throng.delays) >= wanted, _LATE_S + _LATE_S)
    ended = perf_counter()
    if len(throng.delays) != wanted:
        raise RuntimeError(f"{len(throng.delays)} messages came, {wanted} were published")
    throng.close()
    return {"began": began, "ended": ended, "deliveries": wanted, "delays": percentiles(throng.delays),
            "late_ms": throng.late_s * 1e3}


class _Reader:
    """One subscription. ``heard`` is when it heard a heartbeat last."""

    __slots__ = ("dealer", "id", "following", "number", "used", "heard")

    def __init__(self, dealer, id, topic):
        self.dealer = dealer
        self.id = id
        self.following = topic
        self.number = self.used = 0
        self.heard = 0.0

    def say(self, name, args):
        self.dealer.send_multipart((b"", wire.answer(self.id, b"said", name, args)))


class _Throng:
    """All subscriptions of one process. ``delays`` has the latency of each message that came."""

    def __init__(self, endpoint, connections, subscriptions, topics):
        self.greeted = 0
        self.late_s = 0.0
        self.delays: list = []
        self._topics = topics
        self._heartbeat_s = None
        self._readers = {}
        self._owed: list = []       # a heap of when each reader that was greeted owes a heartbeat, and its id
        self._looked_at = 0.0
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        dealers = [self._connect(endpoint) for _ in range(connections)]
        for number in range(subscriptions):
            self._subscribe(dealers[number // topics % connections if connections > 1 else 0], number)

    def _connect(self, endpoint):
        dealer = self._context.socket(zmq.DEALER)
        dealer.set_hwm(0)
        dealer.connect(endpoint)
        self._poller.register(dealer, zmq.POLLIN)
        return dealer

    def _subscribe(self, dealer, number):
        id, topic = number.to_bytes(8, "big"), number % self._topics
        reader = self._readers[id] = _Reader(dealer, id, topic)
        dealer.send_multipart((b"", wire.request(id, "subscribe", (topic_name(topic), {"format": "batch"}))))
        reader.say(wire.MORE, wire.pack((_WINDOW,)))

    def turn_until(self, done, timeout_s):
        """Receive, and send the heartbeats that are owed, until *done* or nothing has come for *timeout_s*."""
        heard = perf_counter()
        while not done():
            ready = self._poller.poll(10)
            now = perf_counter()
            if ready:
                heard = now
            elif now - heard > timeout_s:
                raise RuntimeError("not everything came in time")
            for dealer, _ in ready:
                self._drain(dealer)
            if now - self._looked_at > _LOOK_BEHIND_S:
                self._looked_at = now
                self._beat(now)

    def _drain(self, dealer):
        try:
            for _ in range(200):
                dealer.recv(zmq.NOBLOCK)
                self._take(*msgpack.unpackb(dealer.recv()))
        except zmq.Again:
            pass

    def _take(self, header, name, value):
        reader = self._readers[header["response_to"]]
        if name == wire.STREAM:
            self._take_item(reader, value)
        elif name == wire.HEARTBEAT:
            now = perf_counter()
            self.late_s = max(self.late_s, now - reader.heard - self._heartbeat_s)
            reader.heard = now
        else:
            raise RuntimeError(f"a subscription ended: {value}")

    def _take_item(self, reader, item):
        if type(item) is list:
            number, *batches = item
            self._take_batches(reader, batches)
        else:
            number = item["n"]
            self._take_control(reader, item)
        if number != reader.number:
            raise RuntimeError(f"item {number} came where {reader.number} belongs")
        reader.number += 1
        reader.used += 1
        if reader.used >= _WINDOW // 2:
            reader.say(wire.MORE, wire.pack((reader.used,)))
            reader.used = 0

    def _take_batches(self, reader, batches):
        now = perf_counter()
        for packed in batches:
            number, due = _DUE.unpack_from(packed, len(packed) - BYTES)
            if number != reader.following:
                raise RuntimeError(f"message {number} came where {reader.following} belongs")
            reader.following += self._topics
            self.delays.append(now - due)

    def _take_control(self, reader, item):
        if item["control"] == "subscribed":
            self.greeted += 1
            self._heartbeat_s = item["heartbeat_s"]
            reader.heard = perf_counter()
            # They would not all have come within a second, and so beat at times of their own.
            heappush(self._owed, (reader.heard + random() * self._heartbeat_s, reader.id))
        elif item["control"] != "keepalive":
            raise RuntimeError(f"a subscription is told of {item}")

    def _beat(self, now):
        owed = self._owed
        while owed and owed[0][0] <= now:
            beat_at, id = owed[0]
            self._readers[id].say(wire.HEARTBEAT, _BEAT)
            heapreplace(owed, (beat_at + self._heartbeat_s, id))

    def close(self):
        self._context.destroy(linger=0)
