"""Topic templates: ``flights.{origin}.{destination}`` filled from the fields of a JSON value.

A field's value becomes part of one token, so it must not bring a dot with it; where it
does, or where the field is missing, the line is refused rather than filed under a
topic that nobody expects. Only a template that is one field and nothing else, ``{topic}``, takes
a whole topic from it.
"""

import re

from ..errors import InvalidTopic
from ..topics import check_topic

_FIELD = re.compile(r"\{([^{}]*)\}")


class Template:
    """A topic with ``{field}`` or ``{outer.inner}`` in it.

    Raises ValueError for a template that could never give a valid topic.
    """

    CACHE_SIZE = 10_000

    def __init__(self, text):
        self.text = text
        self.fields = _FIELD.findall(text)
        self._is_whole = bool(_FIELD.fullmatch(text))
        if not all(self.fields):
            raise ValueError(f"{text!r}: name a field between the braces, such as {{origin}}")
        rest = _FIELD.sub("x", text)
        try:
            if "{" in rest or "}" in rest:
                raise InvalidTopic("a brace has no partner.")
            check_topic(rest)
        except InvalidTopic as error:
            raise ValueError(f"{text!r} is no topic template: {error}") from error
        self._topics = {}

    def fill(self, value):
        """Return the topic for *value*; raise ValueError with the reason where there is none."""
        found = tuple(token_of(value, field, self._is_whole) for field in self.fields)
        topic = self._topics.get(found)
        if topic is None:
            topic = self._make(found)
            if len(self._topics) < self.CACHE_SIZE:
                self._topics[found] = topic
        return topic

    def _make(self, tokens):
        remaining = iter(tokens)
        try:
            return check_topic(_FIELD.sub(lambda _: next(remaining), self.text))
        except InvalidTopic as error:
            raise ValueError(str(error)) from error


def field_of(value, path):
    """Return the field ``outer.inner`` of nested maps; raise ValueError if it is not there."""
    if not isinstance(value, dict):
        raise ValueError(f"the line is {_kind(value)}, no map, so there is no field {path!r}")
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"there is no field {path!r}")
        value = value[name]
    return value


def token_of(value, path, dots=False):
    """Return a field as text that fits into one token of a topic, or, with *dots*, into many."""
    found = field_of(value, path)
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise ValueError(f"field {path!r} is {_kind(found)}; a topic takes text or a whole number")
    token = str(found)
    if not token or ("." in token and not dots):
        raise ValueError(f"field {path!r} is {token!r}, which is not one token of a topic")
    return token


def _kind(value):
    return {type(None): "null", dict: "a map", list: "a list", bool: "true or false", float: "a fraction",
            int: "a number", str: "a text"}[type(value)]
