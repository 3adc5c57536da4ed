"""What a client may ask of durable consumers, checked: deliveries, and the options of each call.

The service and the lane both use these, so that a call means the same on either way. What values
a consumer's settings may have is known where they are kept; here it is seen to that there are no others.
"""

from .checks import check_options, whole, within
from .errors import InvalidOption, LimitExceeded, MalformedRequest

MAX_DELIVERIES = 65_536     # in one call; each is looked up on the hub
MAX_RANGE = 1 << 17         # offsets that one delivery names: no hand-out has more
MAX_REASON_CHARACTERS = 4_000
MAX_SECONDS = 1e9

_MAX_NUMBER = 1 << 53

SETTINGS = ("mode", "ack_wait_s", "backoff_s", "jitter", "max_deliveries", "max_pending", "retention", "expired",
            "max_dead", "inactive_s")
CREATE_OPTIONS = ("start", *SETTINGS)
UPDATE_OPTIONS = tuple(name for name in SETTINGS if name != "mode")
JOIN_OPTIONS = ("consumer", *CREATE_OPTIONS, "max_in_flight", "member", "held", "format", "name")

# What settles, and the options that it takes; extend takes its seconds as an argument.
SETTLING = {"ack": ("before",), "nack": ("delay_s", "reason"), "reject": ("reason",), "extend": ("seconds",)}


def check_name(name):
    """Return *name* if it is text at all; whether there is such a consumer is another question."""
    if not isinstance(name, str):
        raise InvalidOption(f"The name of a consumer is text, not {type(name).__name__}.", option="consumer")
    return name


def check_join(options):
    """Return the options of a subscription that joins a consumer; those of its settings are not looked at."""
    check_name(options["consumer"])
    if "held" in options:
        options["held"] = check_held(options["held"])
    return options


def check_held(held):
    """Return ``[(offset, token), ...]`` of what a member says that it still works on."""
    if not isinstance(held, (list, tuple)) or len(held) > MAX_DELIVERIES:
        raise InvalidOption(f"held is a list of at most {MAX_DELIVERIES} pairs [offset, token].", option="held")
    pairs = [_numbers(pair) for pair in held]
    if any(pair is None or len(pair) != 2 for pair in pairs):
        raise InvalidOption("held is a list of pairs [offset, token], as they came with the messages.", option="held")
    return pairs


# --- settling -----------------------------------------------------------------------------------


def parse_settling(verb, args):
    """Return ``(consumer, deliveries, options)`` of one call of *verb*, one of SETTLING."""
    most = 3
    least = 3 if verb == "extend" else 2
    if not isinstance(args, (list, tuple)) or not least <= len(args) <= most:
        raise MalformedRequest(f"{verb} takes {least} to {most} arguments, the consumer and the deliveries first: "
                               "see docs/protocol.rst.")
    name, deliveries, *rest = args
    options = rest[0] if rest else None
    if verb == "extend":
        options = {"seconds": options}
    options = check_settling(verb, options)
    if deliveries is None and "before" in options:
        return check_name(name), [], options
    return check_name(name), check_deliveries(deliveries), options


def check_settling(verb, options):
    """Return the options of *verb*, without those that are nil, each of the right type."""
    options = check_options(options, SETTLING[verb])
    return {name: _OPTIONS[name](name, value) for name, value in options.items()
            if value is not None or name == "seconds"}


def check_deliveries(deliveries):
    """Return *deliveries* as a list of ``(first, next, token)``; the token is None where none was given.

    An offset, or a list of offsets, ``[offset, token]`` and ``[first, next, token]``.
    """
    if not isinstance(deliveries, (list, tuple)):
        deliveries = [deliveries]
    if len(deliveries) > MAX_DELIVERIES:
        raise LimitExceeded(f"One call settles at most {MAX_DELIVERIES} deliveries, not {len(deliveries)}. Name what "
                            "came together as [first, next, token].", limit=MAX_DELIVERIES)
    return [_triple(one) for one in deliveries]


def _triple(one):
    if type(one) is int and 0 <= one < _MAX_NUMBER:
        return one, one + 1, None
    numbers = _numbers(one if isinstance(one, (list, tuple)) else (one,))
    if numbers is not None:
        if len(numbers) == 1 and not isinstance(one, (list, tuple)):
            return numbers[0], numbers[0] + 1, None
        if len(numbers) == 2:
            return numbers[0], numbers[0] + 1, numbers[1]
        if len(numbers) == 3 and 0 < numbers[1] - numbers[0] <= MAX_RANGE:
            return numbers
    raise InvalidOption(f"A delivery is an offset, [offset, token] or [first, next, token], not {one!r:.60}.",
                        option="deliveries")


def _numbers(values):
    """Return *values* as a tuple of offsets or tokens, None if they are something else."""
    if not isinstance(values, (list, tuple)) or len(values) > 3:
        return None
    numbers = tuple(map(whole, values))
    return numbers if all(number is not None and 0 <= number < _MAX_NUMBER for number in numbers) else None


def _offset(name, value):
    return within(name, value, None, 0, _MAX_NUMBER)


def _seconds(name, value):
    return within(name, value, None, 0, MAX_SECONDS, float)


def _reason(name, value):
    if not isinstance(value, str) or len(value) > MAX_REASON_CHARACTERS:
        raise InvalidOption(f"{name} is text of at most {MAX_REASON_CHARACTERS} characters.", option=name)
    return value


_OPTIONS = {"before": _offset, "delay_s": _seconds, "seconds": _seconds, "reason": _reason}


# --- looking and steering -------------------------------------------------------------------------


def check_count(name, value, default, most):
    """Return *value*, a whole number from 1 to *most*."""
    return within(name, value, default, 1, most)


def check_offset(name, value):
    """Return *value* as an offset, None if it is nil."""
    return None if value is None else _offset(name, value)


def check_offsets(name, value):
    """Return *value* as a list of offsets, None if it is nil, which means all."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) > MAX_DELIVERIES:
        raise InvalidOption(f"{name} is a list of at most {MAX_DELIVERIES} offsets; without it, all.", option=name)
    return [_offset(name, one) for one in value]
