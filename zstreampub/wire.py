"""zerorpc protocol v3 as pure functions: bytes <-> events. Nothing here touches a socket.

An event is ``msgpack([header, name, args])`` in the last frame of a ROUTER/DEALER
message; ``header`` has ``message_id``, ``v`` (3) and, in answers, ``response_to``.
A channel is named by the ``message_id`` of the request that opened it.
"""

import struct

import msgpack

from .errors import InvalidPayload, MalformedRequest

OK, ERR, STREAM, STREAM_DONE = "OK", "ERR", "STREAM", "STREAM_DONE"
HEARTBEAT, MORE = "_zpc_hb", "_zpc_more"

MAX_ELEMENTS = 1 << 17      # of one array or map: msgpack sets the room aside before it has seen the elements
MAX_CONTAINERS = 1 << 20    # lists, maps and ext values of one frame: one byte on the wire, 70 and more in memory
MAX_ID_BYTES = 128

_packer = msgpack.Packer(use_bin_type=True)
pack = _packer.pack

_LARGE_BYTES = 256 * 1024   # a smaller frame cannot have enough containers to do harm
_BIN = struct.Struct(">cI")
_EXT_COST = 8               # an ext value takes as long to make as so many lists
_LIMITS = dict(max_array_len=MAX_ELEMENTS, max_map_len=MAX_ELEMENTS)
_NAMES = {name: pack(name) for name in (OK, ERR, STREAM, STREAM_DONE, HEARTBEAT, MORE)}
_ANSWER_HEAD = b"\x93\x83" + pack("v") + b"\x03" + pack("message_id")
_RESPONSE_TO = pack("response_to")
_REQUEST_HEAD = b"\x93\x82" + pack("v") + b"\x03" + pack("message_id")


def unpack_event(blob):
    """Return ``(header, name, args)`` of a frame from the network.

    Raises MalformedRequest; it carries ``reply_to``, the id under which the sender
    waits for an answer, or None where the frame does not say.
    """
    try:
        event = msgpack.unpackb(blob, **_LIMITS) if len(blob) <= _LARGE_BYTES else _unpack_large(blob)
    except Exception as error:      # msgpack raises ten kinds
        raise _refuse(blob, error) from error
    if type(event) is not list or len(event) != 3:
        raise MalformedRequest("An event is [header, name, args].", reply_to=None)
    header, name, _ = event
    if type(header) is not dict:
        raise MalformedRequest("The header of an event is a map.", reply_to=None)
    if "response_to" in header:
        if not _is_id(header["response_to"]):
            raise MalformedRequest("response_to is text or bytes.", reply_to=None)
        reply_to = None
    else:
        reply_to = header.get("message_id")
        if not _is_id(reply_to):
            raise MalformedRequest("The header of a request has a message_id, text or bytes.", reply_to=None)
    if type(name) is not str:
        raise MalformedRequest("The name of an event is text.", reply_to=reply_to)
    return event


def request(message_id, name, args):
    """Return the bytes that open a channel named *message_id*; *args* is a list."""
    return request_head(message_id, name) + pack(args)


def request_head(message_id, name):
    """Return the bytes of a request up to its args."""
    return b"".join((_REQUEST_HEAD, pack(message_id), pack(name)))


def list_parts(values):
    """Return the parts of *values*, packed as a list; bytes are parts as they are, not copied."""
    parts = [_packer.pack_array_header(len(values))]
    for value in values:
        parts += (bin_head(len(value)), value) if type(value) is bytes else (pack(value),)
    return parts


def bin_head(size):
    """Return what stands before *size* bytes."""
    return _BIN.pack(b"\xc6", size)


def answer_head(channel_id, message_id, name):
    """Return the bytes of an answer up to its args: made once for a stream, then used for every item."""
    return b"".join((_ANSWER_HEAD, pack(message_id), _RESPONSE_TO, pack(channel_id), _NAMES[name]))


def answer(channel_id, message_id, name, packed_args):
    """Return the bytes of one answer on a channel."""
    return answer_head(channel_id, message_id, name) + packed_args


def error_args(name, message):
    """Return the packed args of an ERR event. The third is the traceback: it never crosses the wire."""
    return pack((name, message.encode("utf-8", "backslashreplace").decode(), None))


def credit(args):
    """Return how many items a ``_zpc_more`` event grants; nonsense grants nothing."""
    try:
        granted = args[0]
    except (TypeError, IndexError, KeyError):
        return 0
    return granted if type(granted) is int and granted > 0 else 0


def _is_id(value):
    return isinstance(value, (bytes, str)) and 0 < len(value) <= MAX_ID_BYTES


def _unpack_large(blob):
    """Unpack *blob*, but stop before what stands in a few megabytes fills the memory and holds the hub for seconds."""
    count = 0

    def counted(value, *ext_data):
        nonlocal count
        count += _EXT_COST if ext_data else 1
        if count > MAX_CONTAINERS:
            raise ValueError(f"there are more than {MAX_CONTAINERS} lists, maps and ext values")
        return msgpack.ExtType(value, *ext_data) if ext_data else value

    return msgpack.unpackb(blob, list_hook=counted, object_hook=counted, ext_hook=counted, **_LIMITS)


def _refuse(blob, error):
    """Find out who waits for the answer to a request of which perhaps only the header can be read."""
    reason = str(error) or type(error).__name__
    reply_to = None
    try:
        reader = msgpack.Unpacker(**_LIMITS)
        reader.feed(blob)
        reader.read_array_header()
        header = reader.unpack()
        if _is_id(header["message_id"]) and "response_to" not in header:
            reply_to = header["message_id"]
    except Exception:       # not even the header makes sense: nobody to answer
        return MalformedRequest(f"The frame is no event: {reason}.", reply_to=None)
    return InvalidPayload(f"The arguments cannot be read: {reason}. Text is UTF-8, map keys are text or bytes, a list "
                          f"or map has at most {MAX_ELEMENTS} entries.", reply_to=reply_to)
