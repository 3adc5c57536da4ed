"""Fields: the places in a message that a filter may look at, each as a column of values."""

from ..errors import InvalidOption
from .picked import MISSING, looked_up

MAX_PATH_BYTES = 255
MAX_PATH_NAMES = 8      # below "payload"
FORMS = "topic, key, id, offset, time, payload, payload.NAME, payload.NAME.NAME, headers.NAME"

_MICRO = 1_000_000


def field_at(path):
    """Return the function ``(opened, places) -> values`` of the field at *path*; MISSING stands where it is not there.

    Raises InvalidOption.
    """
    if not isinstance(path, str) or not 0 < len(path.encode("utf-8", "surrogatepass")) <= MAX_PATH_BYTES:
        raise InvalidOption(f"A field is text of 1 to {MAX_PATH_BYTES} bytes, one of {FORMS}; not {path!r:.60}.",
                            option="filters")
    if path in _PLAIN:
        return _PLAIN[path]
    root, _, rest = path.partition(".")
    names = rest.split(".")
    if root == "headers" and rest:
        return _header(rest)        # a header's name may have dots
    if root == "payload" and all(names):
        if len(names) > MAX_PATH_NAMES:
            raise InvalidOption(f"The field {path!r:.60} has {len(names)} names below payload; at most "
                                f"{MAX_PATH_NAMES} are looked up.", option="filters")
        return _payload(names)
    raise InvalidOption(f"There is no field {path!r:.60}; there are {FORMS}.", option="filters")


def needs_payload(path):
    """Whether payloads must be opened to look at *path*, which is a field."""
    return path is not None and (path == "payload" or path.startswith("payload."))


def at_places(column, places):
    """Return what stands in *column* at *places*, in order; a range is copied at once."""
    if isinstance(places, range):
        return column[places.start:places.stop:places.step]
    return list(map(column.__getitem__, places))


def _header(name):
    def column(opened, places):
        headers = opened.metadata("headers")
        if headers is None:
            return [MISSING] * len(places)
        return [MISSING if one is None else one.get(name, MISSING) for one in at_places(headers, places)]
    return column


def _payload(names):
    first, *others = names

    def column(opened, places):
        values = at_places(opened.named(first, places[-1] + 1), places)
        for name in others:
            values = looked_up(values, name)
        return values
    return column


def _whole_payload(opened, places):
    return at_places(opened.values(places[-1] + 1), places)


def _metadata(name):
    def column(opened, places):
        values = opened.metadata(name)
        if values is None:
            return [MISSING] * len(places)
        return [MISSING if one is None else one for one in at_places(values, places)]
    return column


def _topic(opened, places):
    return [MISSING if opened.topic is None else opened.topic] * len(places)


def _offset(opened, places):
    first = opened.first
    return [MISSING] * len(places) if first is None else [first + at for at in places]


def _time(opened, places):
    return [opened.time_us / _MICRO] * len(places)


_PLAIN = {"topic": _topic, "offset": _offset, "time": _time, "key": _metadata("key"), "id": _metadata("id"),
          "payload": _whole_payload}
