"""Content types: how a payload is written, named in each message by its header ``content-type``.

On the wire and on disk a payload is always one msgpack value. Written in another way it is the bytes of
that, and the header names the way, so that readers need no agreement. Only bytes are decoded, and only by a
codec that this process knows: what has another content type stays as it is. Nobody but the reader decodes: the server
hands out what it was given.
"""

import json
import pickle
import warnings

import msgpack

from .errors import InvalidOption, InvalidPayload, ZStreamPubError
from .payload import Undecodable, pack_payload

HEADER = "content-type"

_SUFFIXES = "+json", "+cbor"
_CBOR_END = b"\x4cthat was all"     # the second of a CBOR array of two: what stands before it is one value, or more


class Codec:
    """A way to write values: ``dumps(value)`` returns bytes, ``loads(bytes)`` the value; either raises what it will."""

    __slots__ = ("name", "content_type", "dumps", "loads")

    def __init__(self, name, content_type, dumps, loads):
        self.name = name
        self.content_type = content_type
        self.dumps = dumps
        self.loads = loads

    def __repr__(self):
        return f"<Codec {self.name} {self.content_type}>"


def register(codec, *content_types):
    """Have this process read and write with *codec*: it is found by its name, its ``content_type`` and *content_types*.

    What is there under one of them is replaced, for the messages that are read from then on.
    """
    if not codec.name or "/" in codec.name or "/" not in codec.content_type:
        raise InvalidOption("A codec has a short name and a content type like 'application/x-name', not "
                            f"{codec.name!r:.60} and {codec.content_type!r:.60}.", option="codec")
    for name in (codec.name, codec.content_type, *content_types):
        _known[name.lower()] = codec


def allow(name):
    """Switch on the codec *name* in this process, for reading and for writing, and return it. There is one: "pickle".

    Whoever can publish what this process reads can then run code in it: a pickle is a program, and loading it runs it.
    It is for programs that you trust as you trust this one, and who reads must have called this as who writes.
    """
    if name != "pickle":
        raise InvalidOption(f"There is no codec {name!r:.60} that has to be switched on; 'pickle' has.", option="name")
    warnings.warn("Pickles are read from here on: whoever can publish what this process reads can run code in it.",
                  RuntimeWarning, stacklevel=2)
    _allowed.add(name)
    return PICKLE


def find(name):
    """Return the Codec with this short name or content type, None if there is none.

    Parameters do not count (``; charset=utf-8``), nor does what stands before a ``+json`` or ``+cbor``.
    """
    codec = _known.get(name)
    if codec is None:
        kind = name.partition(";")[0].strip().lower()
        codec = _known.get(kind)
        if codec is None and kind.endswith(_SUFFIXES):
            codec = _known.get("application/" + kind.rpartition("+")[2])
    return codec


# --- publishing ----------------------------------------------------------------------------


def encode(values, headers, content_type):
    """Return ``(values, headers)`` to publish a list of values with; *headers* is one map for all, a list, or None.

    *content_type* is the short name of a codec, or a content type; one for which there is no codec takes bytes.
    Raises InvalidOption, InvalidPayload.
    """
    if not isinstance(values, (list, tuple)):
        raise InvalidPayload(f"publish_many takes a list of payloads, not {type(values).__name__}.")
    if not isinstance(content_type, str):
        raise InvalidOption(f"content_type is text, not {content_type!r:.60}.", option="content_type")
    codec = find(content_type)
    if codec is MSGPACK:
        return values, headers      # a payload is that anyhow
    if codec is None and "/" not in content_type:
        names = ", ".join(sorted(name for name in _known if "/" not in name))
        raise InvalidOption(f"There is no codec {content_type!r:.60}; there are {names}, and content types such as "
                            "'image/png', which take bytes.", option="content_type")
    full = content_type if "/" in content_type else codec.content_type
    dumps = (codec or BYTES).dumps
    return [_dumped(dumps, value, full) for value in values], _labelled(headers, full)


def encode_one(value, headers, content_type):
    """Return ``(value, headers)`` to publish one value with, see :func:`encode`."""
    values, headers = encode((value,), headers, content_type)
    return values[0], headers


def written_as(value, content_type):
    """Return the value that stands in the log for *value*, which was read under *content_type*, text or None.

    What that cannot express was not written so: it is returned as it is.
    """
    codec = find(content_type) if type(content_type) is str and type(value) is not bytes else None
    try:
        return value if codec is None or codec is MSGPACK else _dumped(codec.dumps, value, content_type)
    except ZStreamPubError:
        return value


def _dumped(dumps, value, content_type):
    try:
        return dumps(value)
    except ZStreamPubError:
        raise
    except Exception as error:      # whatever a codec raises
        raise InvalidPayload(f"The payload cannot be written as {content_type}: {error}. Send it with another "
                             "content_type, or send what this one can express.") from error


def _labelled(headers, content_type):
    if isinstance(headers, (list, tuple)):
        return [_label(one, content_type) for one in headers]
    return _label(headers, content_type)


def _label(headers, content_type):
    if not isinstance(headers, (dict, type(None))):
        raise InvalidPayload(f"Headers are a map, not {type(headers).__name__}.")
    if headers and headers.get(HEADER, content_type) != content_type:
        raise InvalidOption(f"content_type is {content_type!r:.60} and the header says {headers[HEADER]!r:.60}: give "
                            "one of them.", option="content_type")
    return {**(headers or {}), HEADER: content_type}


# --- reading -------------------------------------------------------------------------------


def decode_all(values, headers):
    """Return *values* decoded, each by its headers, a dict or None."""
    return [value if fields is None or HEADER not in fields else decode(value, fields[HEADER])
            for value, fields in zip(values, headers)]


def decode(value, content_type):
    """Return what *value* stands for: decoded if it is bytes and there is a codec; an Undecodable if that fails."""
    if type(value) is not bytes or type(content_type) is not str:
        return value
    codec = find(content_type)
    if codec is None:
        return value
    try:
        return codec.loads(value)
    except ZStreamPubError as error:
        return Undecodable(value, str(error))
    except Exception as error:      # whatever a codec raises
        return Undecodable(value, f"The bytes are no {codec.content_type}: {type(error).__name__}: {error}")


# --- the codecs ----------------------------------------------------------------------------


def _dump_json(value):
    text = _json(value)
    if _has_other_keys(value):
        raise ValueError("a key of a map is no text")      # json would make text of it, and nobody would know
    return text.encode()


def _has_other_keys(value):
    if type(value) is dict:
        return any(type(key) is not str or _has_other_keys(one) for key, one in value.items())
    return type(value) in (list, tuple) and any(map(_has_other_keys, value))


def _load_json(raw):
    return json.loads(str(raw, "utf-8-sig"))


def _dump_cbor(value):
    return _cbor2().dumps(value)


def _load_cbor(raw):
    value, end = _cbor2().loads(b"\x82" + raw + _CBOR_END)
    if end != _CBOR_END[1:]:
        raise ValueError("there is more than one value")
    return value


def _cbor2():
    try:
        import cbor2
    except ImportError as error:
        raise InvalidOption("CBOR needs the package cbor2: pip install 'zstreampub[cbor]'.",
                            option="content_type") from error
    return cbor2


def _dump_bytes(value):
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"it is {type(value).__name__}, not bytes")
    return bytes(value)


def _dump_text(value):
    if not isinstance(value, str):
        raise TypeError(f"it is {type(value).__name__}, not text")
    return value.encode()


def _dump_pickle(value):
    _check_allowed()
    return pickle.dumps(value, protocol=4)


def _load_pickle(raw):
    _check_allowed()
    return pickle.loads(raw)


def _check_allowed():
    if "pickle" not in _allowed:
        raise InvalidOption("It is a pickle, which runs code as it is loaded. Who trusts everybody who can publish "
                            "here calls zstreampub.codecs.allow('pickle'), where it is written and where it is read.",
                            option="content_type")


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_known: dict = {}           # short name or content type -> Codec
_allowed: set = set()

MSGPACK = Codec("msgpack", "application/msgpack", pack_payload, msgpack.unpackb)
JSON = Codec("json", "application/json", _dump_json, _load_json)
CBOR = Codec("cbor", "application/cbor", _dump_cbor, _load_cbor)
BYTES = Codec("bytes", "application/octet-stream", _dump_bytes, bytes)
TEXT = Codec("text", "text/plain", _dump_text, bytes.decode)
PICKLE = Codec("pickle", "application/x-python-pickle", _dump_pickle, _load_pickle)

for _codec in (JSON, CBOR, BYTES, TEXT, PICKLE):
    register(_codec)
register(MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
