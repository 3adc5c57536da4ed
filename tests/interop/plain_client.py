"""A client on plain ZeroMQ and msgpack, written from docs/protocol.rst alone: nothing of zstreampub in it.

    client = Client("tcp://127.0.0.1:4242")
    client.call("publish", "orders.new", {"id": 1})
    for item in client.subscribe("orders.>", start="earliest", until="end"): ...
"""

import os
import time
import zlib

import msgpack
import zmq

WINDOW = 100


class Lost(Exception):
    """No sign of life for two heartbeats: connect anew and resume."""


class Failed(Exception):
    """The server answered ERR; ``args`` are its name and its message."""


class Client:
    def __init__(self, endpoint, heartbeat_s=5.0):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self.heartbeat_s = heartbeat_s

    def send(self, name, args, channel=None):
        header = {"message_id": os.urandom(16), "v": 3}
        if channel is not None:
            header["response_to"] = channel
        self.socket.send_multipart([b"", msgpack.packb([header, name, args])])
        return header["message_id"]

    def events(self, channel, beats):
        """Yield (name, args) of what the server sends on *channel*; raise Lost when it is silent."""
        heard = beaten = time.monotonic()
        while True:
            if self.socket.poll(self.heartbeat_s * 200):
                header, name, args = msgpack.unpackb(self.socket.recv_multipart()[1])
                if header.get("response_to") == channel:
                    heard = time.monotonic()
                    if name == "ERR":
                        raise Failed(args[0], args[1])
                    if name != "_zpc_hb":
                        yield name, args
            now = time.monotonic()
            if now - heard > 2 * self.heartbeat_s:
                raise Lost
            if beats and now - beaten > self.heartbeat_s / 2:
                beaten = now
                self.send("_zpc_hb", [0], channel)

    def call(self, method, *args):
        _, result = next(self.events(self.send(method, args), beats=False))
        return result[0]

    def subscribe(self, patterns, **options):
        """Yield the items; what was taken is granted anew."""
        channel = self.send("subscribe", [patterns, options])
        owed, grant_at = WINDOW, 1 if options.get("format") == "batch" else WINDOW // 2
        for name, item in self.events(channel, beats=True):
            if name == "STREAM_DONE":
                return
            if owed >= grant_at:
                self.send("_zpc_more", [owed], channel)
                owed = 0
            owed += 1
            if isinstance(item, list):      # the batch format: [n, batch, ...]; of a consumer [n, map, batch, ...]
                told = {}
                for part in item[1:]:
                    if isinstance(part, dict):
                        told = {"delivery": part["delivery"], "token": part["token"]}
                    else:
                        yield from ({**message, **told} for message in unpack_batch(part))
            else:
                yield item


def unpack_batch(batch):
    """Yield the messages of one packed batch."""
    flags, count, first = batch[1], int.from_bytes(batch[4:8], "big"), int.from_bytes(batch[8:16], "big")
    topic_end = 36 + int.from_bytes(batch[2:4], "big")
    payload_bytes, metadata_bytes = (int.from_bytes(batch[at:at + 4], "big") for at in (24, 28))
    assert batch[0] == 1 and checksum(batch, batch[36:]) == int.from_bytes(batch[32:36], "big")
    lengths, at = [payload_bytes // count] * count, topic_end
    if flags & 1:
        lengths = [int.from_bytes(batch[at + 4 * i:at + 4 * i + 4], "big") for i in range(count)]
        at += 4 * count
    metadata = msgpack.unpackb(batch[len(batch) - metadata_bytes:]) if flags & 2 else {}
    for i, length in enumerate(lengths):
        message = {"topic": batch[36:topic_end].decode(), "offset": first + i,
                   "time": int.from_bytes(batch[16:24], "big") / 1e6, "payload": msgpack.unpackb(batch[at:at + length])}
        message.update((name, column[i]) for name, column in metadata.items() if column[i] is not None)
        yield message
        at += length


def pack_batch(topic, payloads):
    """Return *payloads* as one packed batch, to publish with ``append``."""
    values = [msgpack.packb(payload) for payload in payloads]
    body = topic.encode() + b"".join(len(value).to_bytes(4, "big") for value in values) + b"".join(values)
    head = [(1, 1), (1, 1), (len(topic.encode()), 2), (len(values), 4), (0, 8), (0, 8), (sum(map(len, values)), 4),
            (0, 4)]
    front = b"".join(number.to_bytes(size, "big") for number, size in head)
    return front + checksum(front, body).to_bytes(4, "big") + body


def checksum(head, body):
    """Return the CRC-32 of all that the publisher writes."""
    return zlib.crc32(body, zlib.crc32(head[24:32], zlib.crc32(head[:8])))
