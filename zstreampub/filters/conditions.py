"""Conditions on one value: equality, ranges, membership, whether it is there. A small table, and nothing else.

Values of different kinds (number, text, bytes, boolean, nil) are never equal and never in order;
``ne`` and ``not_in`` hold wherever ``eq`` and ``in`` do not, also for a field that is not there.
"""

import math
import operator
from itertools import compress, repeat

from ..errors import InvalidOption
from .fields import MISSING

MAX_MEMBERS = 1_000         # of one list
MAX_VALUE_BYTES = 1_024     # of a text, or bytes, to compare with

_NUMBERS = (int, float)
_NUMBER_TYPES = frozenset(_NUMBERS)


def condition(path, name, wanted):
    """Return the function ``(places, values) -> places`` of those whose value is as *wanted*. Raises InvalidOption."""
    if name not in _OPERATORS:
        raise InvalidOption(f"{path}: there is no {name!r:.60}; a condition is a value, or a map of "
                            f"{', '.join(_OPERATORS)}.", option="filters")
    return _OPERATORS[name](path, wanted)


def _equal(path, wanted):
    _check_value(path, wanted)
    kind = _kind(wanted)
    if kind is bool or wanted is None:
        return lambda places, values: [at for at, value in zip(places, values) if value is wanted]
    if kind is float:
        return _compared(_NUMBERS, wanted, operator.eq, lambda values: values.count(wanted) == len(values))

    def pick(places, values):
        # Of msgpack's values, which those of a batch are, only text is equal to a text, and bytes to bytes.
        if len(values) > 1 and values.count(wanted) == len(values):
            return places
        return [at for at, value in zip(places, values) if isinstance(value, kind) and value == wanted]
    return pick


def _member(path, wanted):
    if not isinstance(wanted, (list, tuple)) or not 1 <= len(wanted) <= MAX_MEMBERS:
        raise InvalidOption(f"{path}: a list of 1 to {MAX_MEMBERS} values is needed, not {wanted!r:.60}.",
                            option="filters")
    for value in wanted:
        _check_value(path, value)
    members = {(_kind(value), value) for value in wanted}
    # A value that nothing is compared with (a map, a list) has no kind, and may have no hash.
    return lambda places, values: [at for at, value in zip(places, values)
                                   if (kind := _kind(value)) is not None and (kind, value) in members]


def _opposite(make):
    def build(path, wanted):
        holds = make(path, wanted)

        def pick(places, values):
            others = set(holds(places, values))
            return [at for at in places if at not in others]
        return pick
    return build


def _range(holds, outermost):
    """Return what builds a condition of *holds*; *outermost* finds the value for which it holds last."""
    def build(path, wanted):
        _check_value(path, wanted)
        if _kind(wanted) not in _ORDERED:
            raise InvalidOption(f"{path}: a bound is a number, text or bytes, not {wanted!r:.60}.", option="filters")

        def all_hold(values):
            total = sum(values)     # NaN hides from min and max, and not from the sum
            return holds(outermost(values), wanted) and total == total

        return _compared(_ORDERED[_kind(wanted)], wanted, holds, all_hold)
    return build


def _compared(types, wanted, holds, all_hold):
    """Return what picks the values of *types* of which ``holds(value, wanted)`` is true; booleans are no numbers.

    Where all are numbers, the usual case, ``all_hold(values)`` tells faster whether it is so of every one.
    """
    def pick(places, values):
        if types is _NUMBERS and _NUMBER_TYPES.issuperset(map(type, values)):
            if all_hold(values):
                return places
            return list(compress(places, map(holds, values, repeat(wanted))))
        return [at for at, value in zip(places, values)
                if isinstance(value, types) and value is not True and value is not False and holds(value, wanted)]
    return pick


def _exists(path, wanted):
    if not isinstance(wanted, bool):
        raise InvalidOption(f"{path}: exists is true or false, not {wanted!r:.60}.", option="filters")
    return lambda places, values: [at for at, value in zip(places, values) if (value is not MISSING) is wanted]


def _kind(value):
    """Return what *value* is compared as; None if it is compared with nothing."""
    if value is None or isinstance(value, bool):
        return bool if isinstance(value, bool) else object
    for kind, types in ((float, _NUMBERS), (str, str), (bytes, bytes)):
        if isinstance(value, types):
            return kind
    return None


def _check_value(path, value):
    if _kind(value) is None:
        raise InvalidOption(f"{path}: values are compared with numbers, text, bytes, booleans or nil, not "
                            f"{type(value).__name__}. Name a field inside of it: {path}.NAME.", option="filters")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidOption(f"{path}: {value} is no number to compare with.", option="filters")
    if isinstance(value, (str, bytes)):
        size = len(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))
        if size > MAX_VALUE_BYTES:
            raise InvalidOption(f"{path}: a value to compare with has at most {MAX_VALUE_BYTES} bytes, this one has "
                                f"{size}.", option="filters")


_ORDERED: dict = {float: _NUMBERS, str: str, bytes: bytes}
_OPERATORS = {
    "eq": _equal, "ne": _opposite(_equal), "lt": _range(operator.lt, max), "le": _range(operator.le, max),
    "gt": _range(operator.gt, min), "ge": _range(operator.ge, min), "in": _member, "not_in": _opposite(_member),
    "exists": _exists,
}
