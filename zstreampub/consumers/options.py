"""What a consumer is made with: its name, its settings, and what they default to, all of it checked."""

import re
from dataclasses import asdict, dataclass, fields

from ..checks import within
from ..errors import ConsumerConflict, InvalidOption

MODES = ("shared", "exclusive", "key_ordered")
RETENTIONS = ("keep", "gap")
EXPIRED = ("skip", "dead")
DEAD_TOPIC = "$dead."
MAX_DELIVERIES = 131_072    # named in one call: it is done in one go on the hub

_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){0,30}")
_LONGEST_S = 366 * 86_400.0


@dataclass(frozen=True)
class Options:
    """The settings of one consumer; see docs/protocol.rst."""

    mode: str
    ack_wait_s: float
    backoff_s: tuple
    jitter: float
    max_deliveries: int
    max_pending: int
    retention: str
    expired: str
    max_dead: int
    inactive_s: "float | None"

    def as_map(self):
        return {**asdict(self), "backoff_s": list(self.backoff_s)}

    def delay_s(self, delivery, chance):
        """Return how long to wait after that many deliveries; *chance* in [0, 1) is for the jitter."""
        if not self.backoff_s:
            return 0.0
        delay_s = self.backoff_s[min(max(delivery, 1), len(self.backoff_s)) - 1]
        return delay_s * (1 + self.jitter * (2 * chance - 1))


SETTINGS = tuple(field.name for field in fields(Options))


def check_name(name):
    """Return *name* if a consumer may be called that, else raise InvalidOption."""
    if not isinstance(name, str) or len(name) > 100 or not _NAME.fullmatch(name):
        raise InvalidOption("The name of a consumer is 1 to 100 letters, digits, '_' and '-', in up to 31 parts "
                            f"with dots between them, not {name!r:.120}.", option="consumer")
    return name


def check_settings(given, limits):
    """Return what is given of the settings, checked; None stands for "not given", but for ``inactive_s``."""
    unknown = [name for name in given if name not in SETTINGS]
    if unknown:
        raise InvalidOption(f"Unknown setting {unknown[0]!r:.60}; a consumer has {', '.join(SETTINGS)}.")
    checks = _checks(limits)
    return {name: checks[name](name, value) for name, value in given.items() if value is not None}


def complete(checked, limits):
    """Return the Options that *checked* settings make, with the server's defaults for the others."""
    defaults = dict(mode="shared", ack_wait_s=limits.ack_wait_s, backoff_s=(), jitter=0.1,
                    max_deliveries=limits.max_deliveries, max_pending=limits.consumer_pending, retention="keep",
                    expired="skip", max_dead=limits.max_dead, inactive_s=None)
    return Options(**{**defaults, **checked})


def check_same(name, consumer, patterns, checked):
    """Raise ConsumerConflict if *patterns* (or None) or *checked* settings are not those of *consumer*."""
    there = {"patterns": sorted(set(consumer.wanted.patterns)), **consumer.options.as_map()}
    asked = {key: list(value) if isinstance(value, tuple) else value for key, value in checked.items()}
    if patterns is not None:
        asked["patterns"] = sorted(set(patterns))
    different = [f"{key} is {there[key]!r}, not {value!r}" for key, value in asked.items() if there[key] != value]
    if different:
        raise ConsumerConflict(f"The consumer {name!r} exists with other settings: {'; '.join(different)}. Leave out "
                               "what need not be repeated, change it with update_consumer, or take another name.",
                               consumer=name)


def _checks(limits):
    def number(least, most, kind=int):
        return lambda name, value: within(name, value, None, least, most, kind)

    def one_of(words):
        return lambda name, value: _one_of(name, value, words)

    return dict(
        mode=one_of(MODES), retention=one_of(RETENTIONS), expired=one_of(EXPIRED),
        ack_wait_s=number(0.01, _LONGEST_S, float), backoff_s=_backoff, jitter=number(0, 1, float),
        max_deliveries=number(0, 1 << 31), max_pending=number(1, limits.max_consumer_pending),
        max_dead=number(1, 1 << 31), inactive_s=number(0.01, 100 * _LONGEST_S, float))


def _one_of(name, value, words):
    if value not in words:
        raise InvalidOption(f"{name} is one of {', '.join(words)}, not {value!r:.60}.", option=name)
    return value


def _backoff(name, value):
    if not isinstance(value, (list, tuple)) or len(value) > 100:
        raise InvalidOption(f"{name} is a list of at most 100 numbers of seconds, not {value!r:.60}.", option=name)
    return tuple(within(name, one, None, 0, _LONGEST_S, float) for one in value)


def check_delay(name, value):
    """Return *value* as seconds, None if it is None."""
    return None if value is None else within(name, value, None, 0, _LONGEST_S, float)


def check_reason(reason):
    """Return *reason* as text of a bounded length."""
    if reason is None:
        return ""
    if not isinstance(reason, str):
        raise InvalidOption(f"reason is text, not {type(reason).__name__}.", option="reason")
    return reason[:1000].encode(errors="replace").decode()


def check_deliveries(deliveries):
    """Return *deliveries* as a list of ``(first, next, token)``, the token None where none was given.

    They are an offset, or a list of offsets, of ``[offset, token]`` and of ``[first, next, token]``.
    """
    if type(deliveries) is int:
        deliveries = (deliveries,)
    if not isinstance(deliveries, (list, tuple)):
        raise InvalidOption(f"deliveries is an offset or a list, not {type(deliveries).__name__}.", option="deliveries")
    checked, total = [], 0
    for one in deliveries:
        entry = _delivery(one)
        checked.append(entry)
        total += entry[1] - entry[0]
        if total > MAX_DELIVERIES:
            raise InvalidOption(f"One call names at most {MAX_DELIVERIES} deliveries.", option="deliveries")
    return checked


def _delivery(one):
    if (type(one) is list and len(one) == 2 and type(one[0]) is type(one[1]) is int
            and 0 <= one[0] < 1 << 53 and one[1] >= 0):
        return one[0], one[0] + 1, one[1]       # what nearly all of them are
    if type(one) is int and 0 <= one < 1 << 53:
        return one, one + 1, None
    if isinstance(one, (list, tuple)) and len(one) in (2, 3):
        numbers = [within("A number of a delivery", number, None, 0, 1 << 53) for number in one]
        if len(one) == 2:
            return numbers[0], numbers[0] + 1, numbers[1]
        if numbers[0] < numbers[1]:
            return tuple(numbers)
    if isinstance(one, float) and one.is_integer() and 0 <= one < 1 << 53:
        return int(one), int(one) + 1, None
    raise InvalidOption("A delivery is an offset, [offset, token] or [first, next, token] with first < next, "
                        f"not {one!r:.60}.", option="deliveries")
