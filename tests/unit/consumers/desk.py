"""A broker whose consumers have a clock that stands still, and members that are easy to ask."""

import gevent

from tests.hand_store import let_run
from zstreampub.broker import Broker
from zstreampub.consumers import Handout
from zstreampub.settings import Settings
from zstreampub.stores import open_store

_open: list = []


class HandClock:
    """Time that goes on when the test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def now(self):
        return self.seconds

    def wall_us(self):
        return int((1_700_000_000 + self.seconds) * 1e6)

    def to_wall_us(self, when):
        return int((1_700_000_000 + when) * 1e6)

    def from_wall_us(self, wall_us):
        return wall_us / 1e6 - 1_700_000_000


class Desk:
    """A broker, its consumers, and the time."""

    def __init__(self, url, clock, **settings):
        self.url = url
        self.clock = clock
        self.settings = Settings(**settings)
        self.open()

    def open(self):
        self.broker = Broker(open_store(self.url, self.settings), self.settings)
        self.consumers = self.broker.consumers

        _open[:] = [self]

    def is_busy(self):
        """Whether something is on its way to the disk or from it."""
        consumers = self.consumers.by_name.values()
        return self.consumers._writing._scheduled or any(
            one.flushes or one.has_changes or one.rereading.busy or one.undertaker._task is not None
            or (one._reader is not None and not one._reader.live and one._reader._reading) for one in consumers)

    def reopen(self):
        """Close everything, and open it again."""
        self.broker.close()
        self.open()

    def join(self, consumer="c", patterns="a", **options):
        """Join; from the beginning of the log, if the consumer is new."""
        return self.broker.subscribe(patterns, consumer=consumer, start="earliest", **options)

    def advance(self, seconds):
        self.clock.seconds += seconds
        self.consumers.tick()
        settle()

    def describe(self, name="c"):
        return self.consumers.describe(name)


def settle():
    """Let everything that is under way come to its end."""
    for _ in range(3):
        let_run()
        while any(desk.is_busy() for desk in _open):
            gevent.sleep(0.0002)
            let_run()
        gevent.sleep(0.0005)        # a reader may be reading


def given(member):
    """Return ``(offset, delivery)`` of all that *member* has been given and has not taken."""
    settle()
    return [(delivery.offset, delivery.delivery) for delivery in taken(member)]


def taken(member):
    """Return all that *member* has been given and has not taken, as Deliveries."""
    settle()
    found = []
    while (item := member.take()) is not None:
        if isinstance(item, Handout):
            found += item.messages()
    return found


def told(member):
    """Return the gaps and notices that *member* has been told, and drop its messages."""
    settle()
    found = []
    while (item := member.take()) is not None:
        if not isinstance(item, Handout):
            found.append(item)
    return found
