"""Topic names, patterns, and matching one topic against many patterns at once.

A topic is 1 to ``MAX_TOKENS`` tokens joined by dots, at most ``MAX_TOPIC_BYTES``
bytes of UTF-8. A token is one or more characters, none of them a dot, a
wildcard (``*``, ``>``), white space or a control character. In a pattern ``*``
stands for exactly one token and ``>``, only as the last token, for one or more.
Topics whose first token begins with ``$`` belong to the system: a wildcard in
first place does not match them.
"""

import re

from .errors import InvalidTopic

MAX_TOPIC_BYTES = 255   # an LMDB key of format 0.9 holds 511 bytes
MAX_TOKENS = 32

_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f*>]")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){0,31}")


def check_topic(topic):
    """Return *topic* if it is a valid topic name, else raise InvalidTopic."""
    if isinstance(topic, str) and len(topic) <= MAX_TOPIC_BYTES and _PLAIN.fullmatch(topic):
        return topic
    for token in _tokens(topic, "topic"):
        _check_token(topic, token)
    return topic


def check_pattern(pattern):
    """Return *pattern* if it is a valid topic pattern, else raise InvalidTopic."""
    tokens = _tokens(pattern, "pattern")
    for token in tokens[:-1]:
        if token != "*":
            _check_token(pattern, token)
    if tokens[-1] not in ("*", ">"):
        _check_token(pattern, tokens[-1])
    return pattern


def is_plain(pattern):
    """Tell whether *pattern* names exactly one topic."""
    return "*" not in pattern and ">" not in pattern


def matches(pattern, topic):
    """Tell whether a valid *pattern* matches a valid *topic*."""
    wanted, given = pattern.split("."), topic.split(".")
    if given[0][0] == "$" and wanted[0] in ("*", ">"):
        return False
    for at, token in enumerate(wanted):
        if token == ">":
            return len(given) > at
        if at >= len(given) or token not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


class PatternSet:
    """Some patterns, asked about many topics; remembers its answers.

    Used by readers, which see the same few topics again and again. Safe to ask
    from several threads: a lost entry costs one more look-up.
    """

    CACHE_SIZE = 1 << 10     # each reader has one

    def __init__(self, patterns):
        self.patterns = tuple(check_pattern(p) for p in patterns)
        self.topics = self.patterns if all(map(is_plain, self.patterns)) else None
        self._answers = {}

    def __contains__(self, topic):
        answer = self._answers.get(topic)
        if answer is None:
            if len(self._answers) >= self.CACHE_SIZE:
                self._answers = {}
            answer = self._answers[topic] = self.matches(topic)
        return answer

    def matches(self, topic):
        """Tell whether *topic* is wanted, and do not remember it."""
        return any(matches(p, topic) for p in self.patterns)


class PatternTree:
    """Values filed under patterns; finds all values whose pattern matches a topic.

    One walk down the tree instead of one comparison for each pattern: 10,000
    subscriptions cost a look-up no more than a handful.
    """

    def __init__(self):
        self._root = {}

    def add(self, pattern, value):
        """File *value* under *pattern*; the same value may stand under many patterns."""
        node = self._root
        for token in check_pattern(pattern).split("."):
            node = node.setdefault(token, {})
        node.setdefault(None, {})[value] = None

    def remove(self, pattern, value):
        """Undo :meth:`add`; branches that become empty go with it."""
        path = [(self._root, None)]
        for token in pattern.split("."):
            path.append((path[-1][0][token], token))
        del path[-1][0][None][value]
        if not path[-1][0][None]:
            del path[-1][0][None]
        for (parent, _), (node, token) in zip(reversed(path[:-1]), reversed(path[1:])):
            if node:
                break
            del parent[token]

    def match(self, topic):
        """Return the values that match *topic*, each once, in the order in which they are found."""
        tokens = topic.split(".")
        found = {}
        nodes = [self._root]
        wild = tokens[0][0] != "$"
        for token in tokens:
            below = []
            for node in nodes:
                if token in node:
                    below.append(node[token])
                if wild:
                    if "*" in node:
                        below.append(node["*"])
                    if ">" in node:
                        found.update(node[">"].get(None, ()))
            nodes = below
            wild = True
        for node in nodes:
            found.update(node.get(None, ()))
        return tuple(found)


def _tokens(name, kind):
    if not isinstance(name, str):
        raise InvalidTopic(f"A {kind} is text, not {type(name).__name__}.", topic=repr(name)[:80])
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidTopic(f"A {kind} is valid UTF-8; {name!r} is not.", topic=repr(name)) from None
    if not 1 <= size <= MAX_TOPIC_BYTES:
        raise InvalidTopic(f"A {kind} has 1 to {MAX_TOPIC_BYTES} bytes, this one has {size}.", topic=name[:80])
    tokens = name.split(".")
    if len(tokens) > MAX_TOKENS:
        raise InvalidTopic(f"A {kind} has at most {MAX_TOKENS} tokens, this one has {len(tokens)}.", topic=name)
    return tokens


def _check_token(name, token):
    if not token:
        raise InvalidTopic(f"{name!r} has an empty token: two dots in a row, or one at an end.", topic=name)
    if _FORBIDDEN.search(token):
        raise InvalidTopic(
            f"{name!r}: token {token!r} has white space, a control character or a wildcard. "
            "'*' and '>' stand alone in a token, '>' only last, and only in patterns.", topic=name)
