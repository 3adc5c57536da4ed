"""A ZeroMQ peer that sends whatever it is told, for tests of what a hostile or broken client can do."""

import uuid
from time import monotonic

import gevent
import msgpack
import zmq


class RawPeer:
    """A DEALER connected to *endpoint*; receiving gives way to the hub. Use it as a context manager."""

    def __init__(self, endpoint):
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.connect(endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send_parts(self, *parts):
        """Send a ZeroMQ message of exactly these parts."""
        self._socket.send_multipart(parts)

    def send(self, blob):
        """Send one frame as the protocol has it."""
        self.send_parts(b"", blob)

    def event(self, name, args, **header):
        """Send one event; return its message id. ``response_to`` makes it an event of an open channel."""
        header = {"message_id": uuid.uuid4().bytes, "v": 3, **header}
        self.send(msgpack.packb([header, name, args]))
        return header["message_id"]

    def receive(self, deadline_s=10):
        """Return the next event as ``[header, name, args]``; None if there is none within the deadline."""
        ends = monotonic() + deadline_s
        while monotonic() < ends:
            try:
                return msgpack.unpackb(self._socket.recv_multipart(zmq.NOBLOCK)[-1], strict_map_key=False)
            except zmq.Again:
                gevent.sleep(0.002)
        return None

    def answer_to(self, message_id, deadline_s=10):
        """Return ``(name, args)`` of the next event of that channel that is no heartbeat, or None."""
        while (event := self.receive(deadline_s)) is not None:
            header, name, args = event
            if header["response_to"] == message_id and name != "_zpc_hb":
                return name, args
        return None

    def open_stream(self, patterns, options=None):
        """Subscribe; return the channel's id when the greeting is there."""
        channel = self.event("subscribe", [patterns, options or {}])
        name, item = self.answer_to(channel)
        assert name == "STREAM" and item["control"] == "subscribed", (name, item)
        return channel

    def sync(self):
        """Wait until the server has dealt with everything that was sent."""
        name, _ = self.answer_to(self.event("about", []))
        assert name == "OK"
