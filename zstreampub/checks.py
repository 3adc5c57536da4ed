"""Numbers that a stranger sent, checked."""

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
