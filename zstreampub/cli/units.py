"""What people type for bytes, seconds, retention rules and places in the log; nothing here needs a terminal.

Every function raises ValueError with one sentence that says what to type instead.
"""

import re
import time
from datetime import datetime

from ..errors import InvalidTopic
from ..settings import Retention
from ..topics import check_pattern

_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_NUMBER = r"(\d+(?:_\d+)*(?:\.\d+)?|\.\d+)"
_SIZE = re.compile(_NUMBER + r"\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(_NUMBER + r"\s*(ms|[smhdw]?)", re.IGNORECASE)


def parse_bytes(text):
    """Return the bytes of ``4096``, ``64K``, ``2.5 GiB``; K, M, G and T are powers of 1024."""
    found = _SIZE.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is no size: write bytes, or a number with K, M, G or T, such as 64M")
    return int(float(found[1]) * _BYTES[found[2].lower()]) if "." in found[1] or found[2] else int(found[1])


def parse_seconds(text):
    """Return the seconds of ``5``, ``0.5``, ``200ms``, ``10m``, ``7d`` as a float."""
    found = _DURATION.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is no duration: write seconds, or a number with ms, s, m, h, d or w, such as 10m")
    return float(found[1]) * _SECONDS[found[2].lower()]


def parse_durations(text):
    """Return the list of seconds of ``1s,10s,1m``."""
    return [parse_seconds(one) for one in text.split(",")] if text.strip() else []


def parse_retention(text):
    """Return the :class:`Retention` of ``PATTERN:LIMIT=VALUE,...``, such as ``flights.>:age=7d,bytes=2G``.

    ``newest_per_key``, which has no value, may stand among the limits or alone.
    """
    pattern, colon, limits = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r}: a rule is PATTERN:LIMIT=VALUE,..., such as '>:age=7d,bytes=2G'")
    try:
        check_pattern(pattern)
    except InvalidTopic as error:
        raise ValueError(f"{text!r}: {error}") from error
    found = {}
    for limit in limits.split(","):
        name, value = _parse_limit(text, limit)
        if name in found:
            raise ValueError(f"{text!r} gives {limit.partition('=')[0].strip()} twice")
        found[name] = value
    return Retention(pattern, **found)


_LIMITS: dict = {
    "age": ("max_age_s", parse_seconds),
    "bytes": ("max_bytes", parse_bytes),
    "messages": ("max_messages", int),
}
NEWEST_PER_KEY = "newest_per_key"


def _parse_limit(text, limit):
    name, equals, value = limit.strip().partition("=")
    if name == NEWEST_PER_KEY:
        if equals:
            raise ValueError(f"{text!r}: {name} has no value, write it alone")
        return name, True
    if name not in _LIMITS:
        raise ValueError(f"{text!r}: {limit!r} is no limit; there are age=7d, bytes=2G and messages=1000000, "
                         f"and {NEWEST_PER_KEY}")
    field, parse = _LIMITS[name]
    try:
        number = parse(value)
    except ValueError as error:
        reason = error if parse is not int else f"{value!r} is no number of messages"
        raise ValueError(f"{text!r}: {name}: {reason}") from error
    if number <= 0:
        raise ValueError(f"{text!r}: {name} is more than 0; to keep nothing, publish nothing")
    return field, number


def parse_start(text):
    """Return the client's ``start`` of ``new``, ``earliest``, ``last``, ``last:N``, an offset, or ``time:WHEN``.

    WHEN is ISO 8601 (local time where it names no zone), seconds since the epoch, or ``-10m``: so long ago.
    """
    if text in ("new", "earliest", "last"):
        return text
    kind, colon, rest = text.partition(":")
    if text.isdecimal():
        return int(text)
    if kind == "last" and rest.isdecimal():
        return {"last": int(rest)}
    if kind == "time" and colon:
        return {"time": _parse_time(rest)}
    raise ValueError(f"{text!r} is no start: new, earliest, last, last:N, an offset, time:2024-05-01T12:00:00Z, "
                     "time:SECONDS or time:-10m")


def _parse_time(text):
    if text.startswith("-"):
        return time.time() - parse_seconds(text[1:])
    try:
        return float(text)
    except ValueError:
        pass
    try:
        # Python 3.10 does not know the Z.
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text)).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 2024-05-01, 2024-05-01T12:00:00Z, seconds since the epoch, "
                         "or -10m for ten minutes ago") from None


def parse_until(text):
    """Return the client's ``until`` of ``end`` or an offset."""
    if text == "end":
        return text
    if text.isdecimal():
        return int(text)
    raise ValueError(f"{text!r} is no end: write 'end' (the log's end now) or an offset")


def parse_store(text):
    """Return *text* if it names a kind of store."""
    if text == "memory:" or re.match(r"lmdb:.", text):
        return text
    raise ValueError(f"{text!r} names no store: write lmdb:FOLDER, such as lmdb:/var/lib/zstreampub, or memory:")


def parse_endpoint(text):
    """Return *text* if it can be an endpoint; ZeroMQ takes a port over 65535 for another one."""
    port = re.fullmatch(r"tcp://.+:(\d+|\*)", text)
    if port is None and not re.match(r"ipc://.", text):
        raise ValueError(f"{text!r} is no endpoint: write tcp://HOST:PORT, such as tcp://127.0.0.1:4242, or ipc://PATH")
    if port is not None and port[1] != "*" and int(port[1]) > 65535:
        raise ValueError(f"{text!r} is no endpoint: a port is a number up to 65535")
    return text
