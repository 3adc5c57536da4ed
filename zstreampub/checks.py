"""Numbers and options that a stranger sent, checked."""

from .errors import InvalidOption


def whole(value):
    """Return *value* as an integer: JavaScript sends whole floats. None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def within(name, value, default, least, most, kind=int):
    if value is None and default is not None:
        return default
    number = value if kind is float and type(value) in (int, float) else whole(value)
    if number is None or not least <= number <= most:
        raise InvalidOption(f"{name} is a number from {least} to {most}, not {value!r:.60}.", option=name)
    return number


def check_options(options, allowed):
    """Return *options* as a dict of which every key is one of *allowed*."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise InvalidOption(f"options is a map, not {type(options).__name__}; it comes last.")
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise InvalidOption(f"Unknown option {unknown[0]!r:.60}; there are {', '.join(allowed)}.")
    return dict(options)
