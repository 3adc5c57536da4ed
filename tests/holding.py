"""Members that hold what they are given, many of them in the test's own process.

Nothing is settled that the test does not ask for.
"""

from collections import Counter

import gevent
from gevent.event import Event

from tests.benchmarks.lean import LeanClient, LeanMember

_CONNECTIONS = 4
_LATE_S = 120


class Holding:
    """Who works at a server and what they have: ``given`` maps each consumer's offsets to ``(delivery, token)``.

    ``came`` counts the messages of each consumer, also those that came twice. A context manager: who leaves it
    breaks its connections.
    """

    def __init__(self, server):
        self.given: dict = {}
        self.came: Counter = Counter()
        self._members: list = []
        self._more = Event()
        self._connections = [LeanClient(server.endpoint) for _ in range(_CONNECTIONS)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self._members:
            member.leave()
        for connection in self._connections:
            connection.close()

    def call(self, name, *args):
        """Call a method of the server."""
        return self._connections[0].call(name, *args)

    def join(self, consumer, in_flight):
        """Have one more member of *consumer*, which takes that many messages."""
        given = self.given.setdefault(consumer, {})

        def take(batch, token):
            given.update(dict.fromkeys(range(batch.first, batch.next), (member.delivery, token)))
            self.came[consumer] += batch.count
            self._more.set()

        connection = self._connections[len(self._members) % _CONNECTIONS]
        member = LeanMember(connection, consumer, take, max_in_flight=in_flight)
        self._members.append(member)

    def wait(self, wanted):
        """Wait until that many messages of each consumer have come: a map."""
        with gevent.Timeout(_LATE_S):
            while any(self.came[consumer] < messages for consumer, messages in wanted.items()):
                self._more.clear()
                self._more.wait()

    def settle(self, verb, consumer, offsets, options=None, callers=1):
        """Say *verb* of *offsets*, each by a call of its own that waits until it is on disk; *callers* at a time."""
        given, turns = self.given[consumer], iter(offsets)

        def caller():
            for offset in turns:
                assert self.call(verb, consumer, [[offset, given[offset][1]]], options or {}) == 1

        gevent.joinall([gevent.spawn(caller) for _ in range(callers)], raise_error=True)

    def fetch(self, consumer, messages, callers):
        """Fetch so many messages, each by a call of its own; *callers* at a time."""
        given, turns = self.given.setdefault(consumer, {}), iter(range(messages))

        def caller():
            for _ in turns:
                one, = self.call("fetch", consumer, {"timeout_s": _LATE_S})
                given[one["offset"]] = one["delivery"], one["token"]

        gevent.joinall([gevent.spawn(caller) for _ in range(callers)], raise_error=True)
