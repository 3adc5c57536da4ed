"""ZMTP by hand: what a peer says, written from the protocol and not taken from our code, and sockets to say it by."""

import socket

from gevent import socket as green
from gevent.event import Event

from zstreampub.zmtp.frames import SCRATCH_BYTES, Inbox

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL" + bytes(16) + b"\x00" + bytes(31)
DEADLINE_S = 30


class Noting:
    """Base of what notes what it is told: it rings ``changed`` each time."""

    def __init__(self):
        self.changed = Event()

    def wait(self, fulfilled):
        """Wait until ``fulfilled()``; the deadline is the test's."""
        while not fulfilled():
            self.changed.clear()
            self.changed.wait(0.05)


def frame(body, more=False):
    """Return one frame of a message."""
    if len(body) < 256:
        return bytes((int(more), len(body))) + body
    return bytes((2 + int(more),)) + len(body).to_bytes(8, "big") + body


def message(*parts):
    """Return all frames of a message."""
    return b"".join(frame(part, more=True) for part in parts[:-1]) + frame(parts[-1])


def command(name, body=b""):
    """Return a command; a long one if it has to be."""
    whole = bytes((len(name),)) + name + body
    return bytes((4, len(whole))) + whole if len(whole) < 256 else b"\x06" + len(whole).to_bytes(8, "big") + whole


def ready(kind=b"DEALER", name=b"Socket-Type"):
    return command(b"READY", bytes((len(name),)) + name + len(kind).to_bytes(4, "big") + kind)


def hello(kind=b"DEALER"):
    return GREETING + ready(kind)


class Hearing:
    """An Inbox that is fed by hand; ``blobs`` has what came of it, ``replies`` what was to be sent in return."""

    def __init__(self, kind="ROUTER", max_frame_bytes=1 << 20):
        self.blobs, self.replies = [], []
        self.inbox = Inbox(kind, memoryview(bytearray(SCRATCH_BYTES)), max_frame_bytes, self.replies.append)

    def feed(self, heard, piece=SCRATCH_BYTES):
        """Feed *heard* in pieces of at most *piece* bytes; return self."""
        at = 0
        while at < len(heard):
            room = self.inbox.room()
            assert len(room), "nothing more could be received, and nothing would say so"
            part = heard[at:at + min(piece, len(room))]
            room[:len(part)] = part
            self.blobs += [blob if blob is None else bytes(blob) for blob in self.inbox.take(len(part))]
            at += len(part)
        return self

    @property
    def kept_bytes(self):
        """What the inbox keeps for itself."""
        buffer = self.inbox._buffer
        return 0 if buffer is self.inbox._scratch else len(buffer)


class Wire:
    """A plain socket as a peer; receiving gives way to the hub. Use it as a context manager."""

    def __init__(self, endpoint=None, sock=None):
        self.sock = sock or green.socket(socket.AF_INET if endpoint.startswith("tcp:") else socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        if endpoint is not None:
            scheme, place = endpoint.split("://")
            host, _, port = place.rpartition(":")
            self.sock.connect((host, int(port)) if scheme == "tcp" else place.replace("@", "\0", 1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, heard):
        self.sock.sendall(heard)

    def reset(self):
        """Vanish by a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def receive(self, count):
        """Return the next *count* bytes."""
        got = bytearray()
        while len(got) < count:
            part = self.sock.recv(min(count - len(got), 1 << 16))
            assert part, f"the other side closed the connection after {bytes(got)!r}"
            got += part
        return bytes(got)

    def receive_frame(self):
        """Return ``(flags, body)`` of the next frame."""
        flags, size = self.receive(2)
        if flags & 2:
            size = int.from_bytes(bytes((size,)) + self.receive(7), "big")
        return flags, self.receive(size)

    def receive_hello(self):
        """Return the greeting and the body of READY."""
        greeting = self.receive(64)
        flags, body = self.receive_frame()
        assert flags == 4 and body.startswith(b"\x05READY")
        return greeting, body

    def receive_blob(self):
        """Return the blob of the next message, over commands."""
        while True:
            flags, body = self.receive_frame()
            if not flags & 4:
                assert (flags, body) == (1, b"")
                return self.receive_frame()[1]

    def is_closed(self):
        """Read to the end; return whether there is one."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True
