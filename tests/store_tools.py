"""What the tests of the stores share: a follower that can be waited for, and short ways to append and read."""

import gevent
from gevent.event import Event

from zstreampub.message import Batch
from zstreampub.store import Append
from zstreampub.stores import open_store
from zstreampub.topics import PatternSet

EVERYTHING = PatternSet([">"])
DEADLINE_S = 20
PLENTY = 1 << 40


class Follower:
    """Follows a store and remembers what it is told, in order."""

    def __init__(self, store):
        self.store = store
        self.appends = []
        self.removals = []
        self.died = None
        self._told = Event()
        store.follow(self._deliver, self._die, self._remove)

    def _deliver(self, appends):
        assert appends, "the follower is told of at least one append"
        self.appends += appends
        self._told.set()

    def _remove(self, removals):
        assert removals, "the follower is told of at least one removal"
        self.removals += removals
        self._told.set()

    def _die(self, error):
        self.died = error
        self._told.set()

    def wait(self, done):
        """Wait until ``done()`` is true; looked at whenever something was told."""
        with gevent.Timeout(DEADLINE_S):
            while not done():
                self._told.clear()
                self._told.wait()

    def append_all(self, appends):
        """Append *appends* at once and wait until all of them are told; returns them."""
        total = len(self.appends) + len(appends)
        for append in appends:
            self.store.append(append)
        self.wait(lambda: len(self.appends) >= total)
        return appends

    def append(self, *batches, **options):
        """Append *batches* together; returns the Append once it is told."""
        return self.append_all([Append(list(batches), **options)])[0]

    def publish(self, topic, *payloads, **columns):
        """Append one batch; returns its first offset, or raises its error."""
        append = self.append(Batch.of(topic, payloads, **columns))
        if append.error is not None:
            raise append.error
        return append.firsts[0]


class Stores:
    """Opens stores of one kind in one place; at the end checks and closes what is still open."""

    def __init__(self, kind, place):
        self.kind = kind
        self.place = place
        self._open = []

    @property
    def url(self):
        return f"lmdb:{self.place}" if self.kind == "lmdb" else "memory:"

    def open(self, settings=None):
        """Return a store and its follower."""
        store = open_store(self.url, settings)
        self._open.append(store)
        return store, Follower(store)

    def close(self, store):
        self._open.remove(store)
        with gevent.Timeout(DEADLINE_S):
            store.check()
            store.close()

    def close_all(self):
        for store in self._open[:]:
            self.close(store)


def read_all(store, wanted=EVERYTHING, cursor=0, max_messages=PLENTY, max_bytes=PLENTY, trims=0):
    """Read to the end in as many chunks as it takes; returns ``(batches, gaps)``."""
    batches, gaps = [], []
    end = store.bounds()[1]
    with gevent.Timeout(DEADLINE_S):
        while cursor < end:
            chunk = store.read(cursor, wanted, end, max_messages, max_bytes, trims)
            assert chunk.next > cursor, "a read below the end progresses"
            batches += chunk.batches
            gaps += [chunk.gap] if chunk.gap else []
            cursor, trims = chunk.next, chunk.trims
    return batches, gaps


def contents(batches):
    """Return ``(offset, topic, payload)`` of every message."""
    return [(message.offset, message.topic, message.payload) for batch in batches for message in batch.messages()]
