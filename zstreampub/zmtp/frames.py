"""ZMTP 3.1 with the mechanism NULL, as a state machine: bytes <-> blobs. Nothing here touches a socket.

A message of ours is two frames, an empty one and the blob. What a peer sends is hostile until it is checked;
a message of another shape costs nothing but its place, and a peer that breaks the protocol raises
:class:`BrokenProtocol`. The protocol: https://rfc.zeromq.org/spec/37/.
"""

GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f" + b"\3\1" + b"NULL".ljust(20, b"\0") + bytes(32)

SCRATCH_BYTES = 8 << 10    # received at a time, of small frames

_MORE, _LONG, _COMMAND = 1, 2, 4
_SHORT_BYTES = 255          # of the largest short frame
_LONG_HEAD_BYTES = 9
_COMMAND_BYTES = 4096       # of the largest command that is read, and of any frame before READY
_PONG_BYTES = 16            # of a PING that come back, at the most
_ROOM_BYTES = 8 << 10       # for a frame of which only a part has come, at the least
_TRUST_BYTES = 1 << 20      # set aside for what a head announces; more only as it comes
_FITTING = {"ROUTER": (b"DEALER", b"REQ", b"ROUTER"), "DEALER": (b"ROUTER", b"REP", b"DEALER")}


class BrokenProtocol(Exception):
    """The peer does not speak ZMTP 3 as we do; nothing more can be made of what it sends."""


def frame_head(size):
    """Return what goes before a blob of *size* bytes: the empty frame, and the head of its own."""
    return b"\1\0\0" + bytes((size,)) if size <= _SHORT_BYTES else b"\1\0\2" + size.to_bytes(8, "big")


def hello(kind):
    """Return the first bytes of a connection of a *kind* of socket, ``"ROUTER"`` or ``"DEALER"``."""
    return GREETING + _command(b"READY", _property(b"Socket-Type", kind.encode()) + _property(b"Identity", b""))


def ping():
    """Return a PING, to which the peer has to say something."""
    return _command(b"PING", b"\0\0")


def _command(name, rest):
    return bytes((_COMMAND, 1 + len(name) + len(rest), len(name))) + name + rest


def _property(name, value):
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


class Inbox:
    """What one connection receives: receive into ``room()``, then ``take(count)`` what came.

    *scratch*, a memoryview of SCRATCH_BYTES, may be shared by all connections that are read by turns: what lies there
    is good until the next is read. ``reply(bytes)`` is called for what is to be sent at once in return.
    ``is_ready`` tells whether the peer has shaken hands.
    """

    __slots__ = ("is_ready", "_scratch", "_buffer", "_filled", "_fitting", "_most", "_reply", "_is_greeted", "_frames")

    def __init__(self, kind, scratch, max_frame_bytes, reply):
        self.is_ready = False
        self._scratch = self._buffer = scratch
        self._filled = 0
        self._fitting = _FITTING[kind]
        self._most = max_frame_bytes
        self._reply = reply
        self._is_greeted = False
        self._frames = 0        # of the message that is under way; -1: it is not one of ours

    def room(self):
        """Return where to receive the next bytes."""
        return self._buffer[self._filled:]

    @property
    def is_short(self):
        """Whether a part of a large frame is here, and the rest is likely to be had at once."""
        return self._buffer is not self._scratch and len(self._buffer) > _ROOM_BYTES

    def take(self, count):
        """Return the blobs that *count* more bytes complete, None for each message that is none of ours.

        They are views, good until more is received. Raises BrokenProtocol.
        """
        buffer, end, at, need, blobs = self._buffer, self._filled + count, 0, 2, []
        if not self._is_greeted:
            if end < len(GREETING):
                self._check_greeting(bytes(buffer[:end]))
                self._keep(buffer, 0, end, len(GREETING))
                return blobs
            self._check_greeting(bytes(buffer[:len(GREETING)]))
            self._is_greeted, at = True, len(GREETING)
        while end - at >= 2:
            flags, size, start = buffer[at], buffer[at + 1], at + 2
            if flags & _LONG:
                start = at + _LONG_HEAD_BYTES
                if start > end:
                    need = _LONG_HEAD_BYTES
                    break
                size = int.from_bytes(buffer[at + 1:start], "big")
                most = self._most if self.is_ready and not flags & _COMMAND else _COMMAND_BYTES
                if size > most:
                    raise BrokenProtocol(f"a frame of {size} bytes was announced; it may have {most}")
            stop = start + size
            if stop > end:
                need = stop - at
                break
            at = stop
            if flags:
                self._take_part(flags, size, buffer[start:stop], blobs)
            elif self._frames == 1:
                self._frames = 0
                blobs.append(buffer[start:stop])
            else:
                self._end_message(blobs)
        self._keep(buffer, at, end, need)
        return blobs

    def _take_part(self, flags, size, body, blobs):
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise BrokenProtocol(f"a frame has the flags {flags:#x}")
        if flags & _COMMAND:
            self._obey(bytes(body))
        elif flags & _MORE:
            self._frames = 1 if self._frames == size == 0 and self.is_ready else -1
        elif self._frames == 1:
            self._frames = 0
            blobs.append(body)
        else:
            self._end_message(blobs)

    def _end_message(self, blobs):
        if not self.is_ready:
            raise BrokenProtocol("a message came before READY")
        self._frames = 0
        blobs.append(None)

    def _keep(self, buffer, at, end, need):
        """Keep what is there of a frame that begins *at* and has *need* bytes."""
        rest = end - at
        if not rest:
            self._buffer = self._scratch
        elif at or buffer is self._scratch or end == len(buffer):
            size = need if need <= _TRUST_BYTES else min(need, max(2 * rest, _TRUST_BYTES))
            self._buffer = memoryview(bytearray(max(size, _ROOM_BYTES)))
            self._buffer[:rest] = buffer[at:end]
        self._filled = rest

    # --- what is not a message -----------------------------------------------------------

    @staticmethod
    def _check_greeting(greeting):
        if greeting[:1] != b"\xff" or greeting[9:10] not in (b"", b"\x7f"):
            raise BrokenProtocol("it does not speak ZMTP")
        if greeting[10:11] and greeting[10] < 3:
            raise BrokenProtocol(f"it speaks ZMTP {greeting[10]}; libzmq 4 and later speak 3")
        mechanism = greeting[12:32].rstrip(b"\0")
        if len(greeting) == len(GREETING) and mechanism != b"NULL":
            raise BrokenProtocol(f"it wants the security mechanism {mechanism!r}, which is not configured here")

    def _obey(self, body):
        name, rest = body[1:1 + body[0]] if body else b"", body[1 + body[0]:] if body else b""
        if name == b"READY":
            self._shake_hands(rest)
        elif name == b"ERROR":
            raise BrokenProtocol(f"it refuses: {rest[1:].decode('ascii', 'replace')}")
        elif name == b"PING":
            self._reply(_command(b"PONG", rest[2:2 + _PONG_BYTES]))

    def _shake_hands(self, rest):
        kind = _properties(rest).get(b"socket-type", b"")
        if kind not in self._fitting:
            raise BrokenProtocol(f"its socket is of the kind {kind!r}")
        self.is_ready = True


def _properties(rest):
    """Return the properties of a READY, names in lower case."""
    found, at = {}, 0
    while at < len(rest):
        name = rest[at + 1:at + 1 + rest[at]]
        at += 1 + len(name)
        size = int.from_bytes(rest[at:at + 4], "big")
        found[name.lower()] = rest[at + 4:at + 4 + size]
        at += 4 + size
    return found
