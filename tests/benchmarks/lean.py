"""A lean client of the server: just enough of the protocol to keep a server busy from few processes."""

from collections import deque
from uuid import uuid4

import gevent
import msgpack
import zmq
from gevent.event import AsyncResult

from zstreampub import wire
from zstreampub.message import Batch
from zstreampub.transport import Transport

_GRANT_BYTES = 256 * 1024
_WINDOW = 100
_BEAT = wire.pack((0,))


class LeanClient:
    """Calls and subscriptions on one DEALER; an answer that is an error is raised."""

    def __init__(self, endpoint):
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.connect(endpoint)
        self._channels = {}
        self._ids = 0
        self._base = uuid4().bytes
        self._transport = Transport(self._socket, self._receive)

    def post(self, name, args, on_event):
        """Open a channel; ``on_event(name, value)`` is called for each answer. Returns its id."""
        self._ids += 1
        id = self._base + self._ids.to_bytes(8, "big")
        self._channels[id] = on_event
        self._transport.send(None, wire.request(id, name, args))
        return id

    def call(self, name, *args):
        """Call a method and wait for what it returns."""
        answer = AsyncResult()
        id = self.post(name, args, lambda event, value: answer.set((event, value)))
        event, value = answer.get()
        del self._channels[id]
        if event != wire.OK:
            raise RuntimeError(f"{name}: {value}")
        return value[0]

    def say(self, id, name, packed_args):
        """Send an event on a channel that is open."""
        self._ids += 1
        self._transport.send(None, wire.answer(id, self._base + self._ids.to_bytes(8, "big"), name, packed_args))

    def close(self):
        """Let go of the connection: who waits for an answer waits for ever."""
        self._transport.close()

    def _receive(self, _, blob):
        header, name, value = msgpack.unpackb(blob)
        on_event = self._channels.get(header["response_to"])
        if on_event is not None and name != wire.HEARTBEAT:
            on_event(name, value)


class LeanSubscription:
    """A subscription in batch form: ``on_batch(batch)`` for each; *pause_s* after each item makes it slow.

    ``ended`` is set to None at the end that was asked for, and to the reason at any other.
    """

    def __init__(self, client, patterns, on_batch, pause_s=0, **options):
        self.greeting = AsyncResult()
        self.ended = AsyncResult()
        self._client = client
        self._on_batch = on_batch
        self._pause_s = pause_s
        self._items = deque()
        self._number = self._used = self._used_bytes = 0
        self._id = client.post("subscribe", (patterns, {**options, "format": "batch"}), self._take_event)
        client.say(self._id, wire.MORE, wire.pack((_WINDOW,)))
        self._beat = gevent.spawn(self._keep_beating)

    def _take_event(self, name, value):
        if name != wire.STREAM:
            self.ended.set(None if name == wire.STREAM_DONE else str(value))
        elif self._pause_s:
            self._items.append(value)
            if len(self._items) == 1:
                gevent.spawn_later(self._pause_s, self._take_later)
        else:
            self._take(value)

    def _take_later(self):
        self._take(self._items.popleft())
        if self._items:
            gevent.spawn_later(self._pause_s, self._take_later)

    def _take(self, item):
        try:
            self._take_item(item)
        except Exception as error:      # a message that is not the next one: the drain must not die of it
            self.ended.set(f"{type(error).__name__}: {error}")

    def _take_item(self, item):
        number = item["n"] if type(item) is dict else item[0]
        if number != self._number:
            self.ended.set(f"item {number} came where {self._number} belongs")
        self._number += 1
        if type(item) is dict:
            self._used += 1
            self._take_control(item)
        else:
            for part in item[1:]:
                self._take_part(part)
            self._used += 1
        if self._used_bytes >= _GRANT_BYTES or self._used >= _WINDOW // 4:
            self._client.say(self._id, wire.MORE, wire.pack((self._used,)))
            self._used = self._used_bytes = 0

    def _take_part(self, packed):
        self._used_bytes += len(packed)
        self._on_batch(Batch.parse(packed))

    def _take_control(self, item):
        if item["control"] == "subscribed":
            self.greeting.set(item)
        elif item["control"] == "gap":
            self.ended.set(str(item))

    def _keep_beating(self):
        pause = self.greeting.get()["heartbeat_s"]
        while not self.ended.ready():
            self._client.say(self._id, wire.HEARTBEAT, _BEAT)
            gevent.sleep(pause)


class LeanMember(LeanSubscription):
    """A member of *consumer*: ``on_batch(batch, token)`` for what it is given; ``delivery`` is the batch's."""

    def __init__(self, client, consumer, on_batch, **options):
        self._token = self.delivery = None
        super().__init__(client, None, lambda batch: on_batch(batch, self._token), consumer=consumer, **options)

    def leave(self):
        """Say nothing more; the server learns it when the connection breaks."""
        self._beat.kill()

    def _take_part(self, part):
        if type(part) is dict:
            self._token, self.delivery = part["token"], part["delivery"]
        else:
            super()._take_part(part)
