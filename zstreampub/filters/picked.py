"""What packed maps have under one name, found without decoding the rest of them.

It needs the package msgspec. Without it, and wherever not every payload is a map with names of text, nothing is picked
and whoever asks decodes the payloads whole, with the same values, more slowly.
"""

from functools import cache, lru_cache
from operator import attrgetter

try:
    import msgspec
except ImportError:     # pip install 'zstreampub[filters]'
    msgspec = None

MISSING = object()      # there is no such name in this map

_MAPS = frozenset((*range(0x80, 0x90), 0xde, 0xdf))     # how msgpack begins one
_ARRAY_32 = b"\xdd"
_value = attrgetter("value")


def looked_up(values, name):
    """Return what each of *values* has under *name*, MISSING where that is not there."""
    return [one.get(name, MISSING) if isinstance(one, dict) else MISSING for one in values]


def picked(name, column, lengths):
    """Return :func:`looked_up` of the payloads in *column*, packed, of these *lengths*, a tuple; None if it cannot.

    Text that is no UTF-8 and a map with a number for a name, which msgpack refuses, may go unnoticed inside of a map.
    """
    if msgspec is None or column[0] not in _MAPS:
        return None
    packed = b"".join((_ARRAY_32, len(lengths).to_bytes(4, "big"), column))
    try:
        # A broken one may eat of the next, or claim to have more than there is.
        if tuple(map(len, _pieces().decode(packed))) != lengths:
            return None
        return list(map(_value, _maps_with(name).decode(packed)))
    except Exception:       # several kinds: one is no map, has a name that is no text, is too deep
        return None


@cache
def _pieces():
    return msgspec.msgpack.Decoder(list[msgspec.Raw])


@lru_cache(maxsize=256)
def _maps_with(name):
    one = msgspec.defstruct("Picked", [("value", object, MISSING)], rename={"value": name}, gc=False)
    return msgspec.msgpack.Decoder(list[one])     # type: ignore[valid-type]
