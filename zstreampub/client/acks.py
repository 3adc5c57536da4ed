"""What is said of the deliveries of one consumer (ack, nack, reject, extend), gathered into few requests.

All members that a client has of it share them. Rules: what is said in one turn of the loop goes out at
its end; while MOST_CALLS requests have no answer, what is said gathers and goes with the next. An
extension never goes behind what settles its message. Each request is sent again after a lost
connection, with the same tokens, so it counts once. Nothing here waits but :meth:`Acks.flush`.
"""

import logging
from collections import deque

import gevent

from ..errors import InvalidOption, StaleDelivery
from .calls import Request
from .futures import Future
from .publisher import again

logger = logging.getLogger(__name__)

MOST_CALLS = 4              # requests without an answer
_MOST_IN_CALL = 8192        # deliveries of one request
_MOST_REASON = 1000         # characters

ACK = ("ack", ())


class Settlement(Future):
    """The outcome of one word about the messages ``first <= offset < next``; ``get()`` waits for the disk."""

    __slots__ = ("first", "next", "token", "member")

    def __init__(self, first, next, token, member):
        super().__init__()
        self.first, self.next, self.token, self.member = first, next, token, member
        self.asked = False


class Acks:
    """All that one client says of the deliveries of *consumer*."""

    def __init__(self, channels, consumer):
        self.consumer = consumer
        self.requests = 0
        self._channels = channels
        self._waiting = {}          # (verb, option) -> [Settlement]
        self._parts = deque()       # of requests of which something was stale: (key, [Settlement], sent before)
        self._under_way = {}        # Settle -> None
        self._scheduled = False
        self._loop = gevent.get_hub().loop
        self._complained = set()

    def add(self, key, first, next, token, member=None):
        """Have *member* say *key*, one of ACK, :func:`nack`, :func:`reject`, ...; return the future.

        An empty range says it of no message.
        """
        self._channels.check_owner()
        said = Settlement(first, next, token, member)
        gathered = self._waiting.get(key)
        if gathered is None:
            self._waiting[key] = [said]
            self._schedule()
        else:
            gathered.append(said)
        return said

    def flush(self, timeout_s):
        """Wait until all that was said so far has its answer, at most *timeout_s*."""
        gevent.wait([said for _, said in self._unanswered()], timeout_s)

    def unsettled(self, member):
        """Yield ``(offset, token)`` of what *member* has settled, and the server has not said so."""
        for (verb, _), said in self._unanswered():
            if verb != "extend" and said.member == member and said.first < said.next:
                yield said.first, said.token

    def _unanswered(self):
        parts = [*self._waiting.items(), *((key, said) for key, said, _ in self._parts),
                 *((call.key, call.said) for call in self._under_way)]
        return ((key, one) for key, said in parts for one in said)

    def answered(self, call, error):
        """Take the outcome of a request."""
        del self._under_way[call]
        said = call.said
        stale = isinstance(error, StaleDelivery)
        if stale and call.resent and call.key[0] == "nack":
            error = None        # the first time did it, and the message has gone on to somebody
        if error is None:
            for one in said:
                one.set(None)
        elif stale and len(said) > 1:
            half = len(said) // 2       # the others are done; saying it again of them does nothing
            self._parts += ((call.key, said[:half], call.resent), (call.key, said[half:], call.resent))
        else:
            for one in said:
                one.set_exception(again(error))
            self._complain(call.key[0], said, error)
        if self._waiting or self._parts:
            self._schedule()

    def _schedule(self):
        if not self._scheduled and len(self._under_way) < MOST_CALLS:
            self._scheduled = True
            self._loop.run_callback(self._send)

    def _send(self):
        self._scheduled = False
        while (self._waiting or self._parts) and len(self._under_way) < MOST_CALLS:
            key, said, resent = self._take() if self._waiting else self._parts.popleft()
            call = Settle(self._channels, self, key, said, resent)
            self._under_way[call] = None
            self.requests += 1
            self._channels.open(call)

    def _take(self):
        """Return the next request's worth: extensions first, for they are of no use behind an ack."""
        waiting = self._waiting
        key = next((key for key in waiting if key[0] == "extend"), None) or next(iter(waiting))
        said = waiting.pop(key)
        if len(said) > _MOST_IN_CALL:
            waiting[key] = said[_MOST_IN_CALL:]
        return key, said[:_MOST_IN_CALL], False

    def _complain(self, verb, said, error):
        """Log an error that nobody waits for, once of its kind."""
        kind = verb, type(error)
        unasked = next((one for one in said if not one.asked), None)
        if unasked is not None and kind not in self._complained:
            self._complained.add(kind)
            logger.warning("%s of the message at offset %d of consumer %r: %s: %s (others like it are not logged)",
                           verb, unasked.first, self.consumer, type(error).__name__, error)


class Settle(Request):
    """One request about deliveries, and the futures that share its answer."""

    def __init__(self, channels, acks, key, said, resent):
        super().__init__(channels, key[0], _arguments(acks.consumer, key, said), None, retry=True)
        self.key = key
        self.said = said
        self.resent = resent        # whether it may have been run before
        self._acks = acks

    def on_lost(self, why):
        self.resent = self.resent or self._sent
        return super().on_lost(why)

    def settle(self, value, error):
        self._acks.answered(self, error)


def nack(delay_s, reason):
    """Return what to say to have a message delivered again. Raises InvalidOption."""
    if delay_s is not None:
        _check_seconds("delay_s", delay_s)
    return "nack", (("delay_s", delay_s), ("reason", _text(reason)))


def unseen(id):
    """Return what to say of what the program has not looked at, as the member with that id leaves."""
    return "nack", (("unseen", True), ("member", id))


def reject(reason):
    """Return what to say to have a message made a dead letter. Raises InvalidOption."""
    return "reject", (("reason", _text(reason)),)


def extend(seconds):
    """Return what to say to have longer. Raises InvalidOption."""
    _check_seconds("seconds", seconds)
    return "extend", seconds


def merged(ranges):
    """Return ``(first, next, token)`` ranges as lists, sorted, neighbours of one hand-out as one."""
    runs: list = []
    last = None
    for first, next, token in sorted(ranges):
        if last is not None and last[1] == first and last[2] == token:
            last[1] = next
        else:
            last = [first, next, token]
            runs.append(last)
    return runs


def _arguments(consumer, key, said):
    verb, option = key
    deliveries = merged((one.first, one.next, one.token) for one in said if one.first < one.next)
    if verb == "extend":
        return consumer, deliveries, option
    return consumer, deliveries, {name: value for name, value in option if value is not None}


def _text(reason):
    """Return *reason* as text that can be carried: that of an exception may hold anything."""
    if reason is None:
        return None
    if not isinstance(reason, str):
        raise InvalidOption(f"reason is text, not {type(reason).__name__}.", option="reason")
    return reason[:_MOST_REASON].encode("utf-8", "backslashreplace").decode()


def _check_seconds(name, value):
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise InvalidOption(f"{name} is a number of seconds from 0, not {value!r:.60}.", option=name)
