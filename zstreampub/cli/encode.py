"""Messages as text: JSON lines for programs, readable lines for people.

JSON has no bytes and no NaN. Bytes that are UTF-8 become text, others
``{"base64": "..."}``; NaN and the infinities become the texts "NaN", "Infinity" and
"-Infinity"; a payload that is no msgpack value becomes ``{"error": ..., "base64": ...}``.
What is shown on a terminal has its control characters escaped: a payload must not
be able to drive somebody's terminal.
"""

import base64
import json
import math
from datetime import datetime

from ..payload import Undecodable

_dumps = json.JSONEncoder(ensure_ascii=False).encode
_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def to_json(value):
    """Return *value* as one line of JSON."""
    try:
        return _strict(value)
    except (TypeError, ValueError):     # bytes, NaN, keys of bytes: rare, so the slow way is only for them
        return _dumps(_plain(value))


def message_json(message):
    """Return a message as one line of JSON, with the fields that a stock client gets."""
    return to_json(message.as_map())


def payload_text(payload):
    """Return a payload as bytes for a pipe: text and bytes as they are, everything else as JSON."""
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, Undecodable):
        return bytes(payload.raw)
    text = payload if isinstance(payload, str) else to_json(payload)
    return text.encode(errors="surrogatepass")


class Lines:
    """Makes one readable line of a message; *colour* says whether the terminal takes ANSI colours."""

    def __init__(self, colour):
        self._dim, self._topic, self._key, self._off = (
            ("\x1b[2m", "\x1b[36m", "\x1b[33m", "\x1b[0m") if colour else ("", "", "", ""))

    def __call__(self, message):
        when = datetime.fromtimestamp(message.time).strftime("%H:%M:%S.%f")[:-3]
        parts = [f"{self._dim}{when} {message.offset:>8}{self._off}", f"{self._topic}{safe(message.topic)}{self._off}"]
        if message.key is not None:
            parts.append(f"{self._key}{safe(_plain(message.key))}{self._off}")
        parts.append(safe(message.payload))
        extra = {name: value for name, value in (("id", message.id), ("headers", message.headers))
                 if value is not None}
        if extra:
            parts.append(f"{self._dim}{safe(extra)}{self._off}")
        return "  ".join(parts)


def safe(value):
    """Return *value* on one line in which every character can be printed."""
    value = _plain(value)
    text = value if isinstance(value, str) else _dumps(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _plain(value):
    """Return *value* in the types that JSON has."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _key(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "code"):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return _text_or(value, {"base64": base64.b64encode(value).decode()})
    if isinstance(value, Undecodable):
        return {"error": value.reason, "base64": base64.b64encode(value.raw).decode()}
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _extension(value)


def _text_or(raw, otherwise):
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return otherwise


def _key(key):
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key)


def _extension(value):
    """Return msgpack's Timestamp as seconds, its other extension types as code and bytes."""
    if hasattr(value, "to_unix"):
        return value.to_unix()
    if hasattr(value, "code"):
        return {"extension": value.code, "base64": base64.b64encode(value.data).decode()}
    return str(value)
