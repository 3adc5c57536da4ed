"""Stamps: what a message says of its own time, as whole microseconds since the epoch."""

import re
from datetime import datetime, timedelta, timezone

from msgpack import Timestamp

_MICRO = 1_000_000
_MOST_S = 1e12          # some 30,000 years: what is beyond is no time in seconds
_MOST_TEXT = 40
_NUMBERS = frozenset((int, float))
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9}))?\s?([Zz]|[+-]\d\d(?::?\d\d)?)?",
                  re.ASCII)


def stamps_us(values):
    """Return :func:`stamp_us` of each; numbers, the usual case, go the short way."""
    if _NUMBERS.issuperset(map(type, values)):
        try:
            if min(values) > -_MOST_S and max(values) < _MOST_S:
                return [round(value * _MICRO) for value in values]
        except ValueError:      # NaN, which hides from min and max
            pass
    return list(map(stamp_us, values))


def stamp_us(value):
    """Return the microseconds of *value*: a number of seconds, a date, or ISO 8601 text (UTC where it names no zone).

    None if it is nothing of that.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * _MICRO) if -_MOST_S < value < _MOST_S else None
    if isinstance(value, datetime):     # what a codec made
        return _since_epoch(value)
    if isinstance(value, Timestamp):
        return value.to_unix_nano() // 1000 if -_MOST_S < value.seconds < _MOST_S else None
    return _of_text(value) if isinstance(value, str) and len(value) <= _MOST_TEXT else None


def _of_text(text):
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    day, minute, second, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}")
        us = _since_epoch(at) + (int(fraction.ljust(6, "0")[:6]) if fraction else 0)
        return us - _offset_s(zone) * _MICRO
    except (ValueError, OverflowError):
        return None


def _offset_s(zone):
    if zone in (None, "Z", "z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:]) if len(zone) > 3 else 0
    return (-1 if zone[0] == "-" else 1) * (hours * 3600 + minutes * 60)


def _since_epoch(at):
    at = at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
    return (at - _EPOCH) // timedelta(microseconds=1)
