"""The terms of a publish: stored once, at its place, until when, from when on, and what its publisher waits for.

A request of a client and a call of an embedded broker come down to the same :class:`Order`.
What is wrong with the terms is an InvalidOption that says what would be right. Nothing here waits.
"""

from typing import NamedTuple

from .checks import within
from .clock import now_us
from .errors import AccessError, InvalidOption

TERMS = ("unique", "expected_next", "ttl_s", "delay_s", "at", "wait", "wait_count", "wait_for", "wait_timeout_s")
WAITS = ("durable", "delivered", "acked")
WAIT_TIMEOUT_S = 30.0
DEAD = "$dead."         # topics that begin with it are filled by consumers, and by nobody else

_TERMS = frozenset(TERMS)
_MOST_NEXT = 1 << 53
_LONGEST_S = 1e9        # of a ttl or a delay: 31 years
_LATEST_S = 4e9         # of a time: the year 2096
_LONGEST_WAIT_S = 3600.0
_MOST_WAITED = 1000     # subscriptions or consumers that one publish waits for
_NAME_CHARACTERS = 100


class Wish(NamedTuple):
    """What must have happened before a publish is answered.

    ``wait`` is ``"delivered"`` or ``"acked"``, by *count* subscriptions or consumers, or by the consumers
    *names* (else None); *timeout_s* counts from when the message is on disk.
    """

    wait: str
    count: int      # type: ignore[assignment]  # also the name of a method of tuples
    names: "tuple | None"
    timeout_s: float


class Terms(NamedTuple):
    """The terms of one publish, checked; times are microseconds, ``due_us`` since the epoch."""

    unique: bool = False
    expected_next: "int | None" = None
    ttl_us: "int | None" = None
    due_us: "int | None" = None
    wish: "Wish | None" = None

    @property
    def expires_us(self):
        """When a message that is published now expires, None for never: its time counts from when it can be seen."""
        return None if self.ttl_us is None else max(self.due_us or 0, now_us()) + self.ttl_us


PLAIN = Terms()


class Order:
    """One publish that is ready to go: *append*, and ``result(append)``, what it answers when that is done.

    ``due_us`` says when it is to be stored, None for now; ``wish`` what is waited for. ``answer``
    is what it answers instead of the offsets that *form* makes of the append.
    """

    __slots__ = ("append", "topic", "due_us", "wish", "answer", "form")

    def __init__(self, append, form, terms=PLAIN):
        self.append = append
        self.topic = append.batches[0].topic
        self.form = form
        self.due_us = terms.due_us
        self.wish = terms.wish
        self.answer = None

    def result(self, append):
        return self.form(append) if self.answer is None else self.answer


def publish_result(append):
    """Return what ``publish`` answers: the offset."""
    return append.firsts[0]


def publish_many_result(append):
    """Return what ``publish_many`` answers: ``(first, next)``."""
    return append.firsts[0], append.firsts[0] + append.count


def parse_terms(options, has_ids=False):
    """Return the Terms in *options*, a dict that may have other things in it. Raises InvalidOption."""
    if _TERMS.isdisjoint(options):
        return PLAIN
    terms = Terms(
        _unique(options.get("unique"), has_ids),
        _number(options, "expected_next", 0, _MOST_NEXT, int),
        _microseconds(_number(options, "ttl_s", 0.001, _LONGEST_S)),
        _due_us(options),
        _wish(options))
    if terms.due_us is not None and (terms.expected_next is not None or terms.wish is not None):
        raise InvalidOption("delay_s and at do not go together with expected_next and wait: what is delayed is "
                            "not in the log yet.", option="delay_s")
    return terms


def check_may_publish(topic):
    """Raise AccessError if *topic* is not for publishers."""
    if topic.startswith(DEAD):
        raise AccessError(f"{topic!r:.80} takes dead letters of a consumer, and nothing else. Publish to another "
                          "topic, or reject the message in the consumer.")


def _unique(value, has_ids):
    if value is None or value is False:
        return False
    if value != "content":
        raise InvalidOption(f"unique is 'content', not {value!r:.60}.", option="unique")
    if has_ids:
        raise InvalidOption("Give id or unique, not both: with unique='content' the payload makes the id.",
                            option="unique")
    return True


def _due_us(options):
    delay_s = _number(options, "delay_s", 0, _LONGEST_S)
    at_s = _number(options, "at", 0, _LATEST_S)
    if delay_s is not None and at_s is not None:
        raise InvalidOption("Give delay_s (seconds from now) or at (seconds since the epoch), not both.", option="at")
    return _microseconds(at_s) if delay_s is None else now_us() + _microseconds(delay_s)


def _wish(options):
    wait = options.get("wait")
    if wait is not None and wait not in WAITS:
        raise InvalidOption(f"wait is one of {', '.join(WAITS)}, not {wait!r:.60}.", option="wait")
    names, count = _names(options.get("wait_for")), _number(options, "wait_count", 1, _MOST_WAITED, int)
    timeout_s = _number(options, "wait_timeout_s", 0, _LONGEST_WAIT_S)
    if wait in (None, "durable"):
        if names is not None or count is not None or timeout_s is not None:
            raise InvalidOption("wait_count, wait_for and wait_timeout_s go with wait='delivered' or wait='acked'.",
                                option="wait")
        return None
    if names is not None and (count is not None or wait != "acked"):
        raise InvalidOption("wait_for names the consumers of wait='acked'. Else give wait_count: how many.",
                            option="wait_for")
    count = len(names) if names is not None else count or 1
    return Wish(wait, count, names, WAIT_TIMEOUT_S if timeout_s is None else float(timeout_s))


def _names(value):
    if value is None:
        return None
    if (not isinstance(value, (list, tuple)) or not 0 < len(value) <= _MOST_WAITED
            or not all(isinstance(name, str) and len(name) <= _NAME_CHARACTERS for name in value)):
        raise InvalidOption(f"wait_for is a list of 1 to {_MOST_WAITED} names of consumers.", option="wait_for")
    return tuple(dict.fromkeys(value))


def _number(options, name, least, most, kind=float):
    value = options.get(name)
    return None if value is None else within(name, value, None, least, most, kind)


def _microseconds(seconds):
    return None if seconds is None else int(seconds * 1e6)
