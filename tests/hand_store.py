"""A store whose commits, deliveries and reads happen when the test says so, and readers that check what they get."""

from collections import deque

import gevent
from gevent.event import Event

from zstreampub import fanout
from zstreampub.broker import Broker
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append, Gap
from zstreampub.stores.memory import MemoryStore

# A step of a test is a step of the broker, however slow the machine.
fanout._TURN_S = 60.0


def let_run():
    """Give every greenlet that can run its turn, and those that it starts."""
    for _ in range(4):
        gevent.sleep(0)


class HandStore(MemoryStore):
    """A MemoryStore by hand: each step of a publish and of a read is a call of the test's.

    ``early``: whether a read looks at the log when it is asked for or when it is let go;
    the contract allows both.
    """

    def __init__(self, settings):
        super().__init__(settings)
        self.early = False
        self._asked = deque()
        self._committed = deque()
        self._follower = None

    def follow(self, deliver, died=None, removed=None):
        self._follower, self._removed_told = deliver, removed
        self._deliver = self._committed.append

    def append(self, append):
        self._pending.append(append)

    @property
    def pending(self):
        return len(self._pending)

    @property
    def untold(self):
        return len(self._committed)

    @property
    def reads(self):
        return len(self._asked)

    def commit(self):
        """Commit all that is pending, as one group; the follower is not told yet."""
        self._commit()

    def tell(self):
        """Tell the follower of the oldest commit that it has not been told of."""
        if self._committed:
            self._follower(self._committed.popleft())
            let_run()

    def let_read(self):
        """Let the oldest waiting read finish."""
        if self._asked:
            self._asked.popleft().set()
            let_run()

    def read(self, *args):
        go, chunk = Event(), None
        if self.early:
            chunk = super().read(*args)
        self._asked.append(go)
        go.wait()
        return super().read(*args) if chunk is None else chunk

    def settle(self):
        """Finish everything that is under way."""
        let_run()
        while self._pending or self._committed or self._asked:
            self.commit()
            self.tell()
            self.let_read()
            let_run()


class Stage:
    """A broker over a HandStore, all that was published through it, and who reads."""

    def __init__(self, **settings):
        self.settings = Settings(**settings)
        self.store = HandStore(self.settings)
        self.broker = Broker(self.store, self.settings)
        self.appends = []
        self._published = {}
        self.replies = []
        self.readers = []

    def publish(self, *batches):
        """Queue one append; *batches* are ``(topic, payloads, keys)``."""
        append = Append([Batch.of(topic, payloads, keys) for topic, payloads, keys in batches])
        append.reply = self.replies.append
        self.appends.append(append)
        self._published[append] = append.batches
        self.broker.append(append)

    def subscribe(self, *args, **options):
        """Open a subscription; returns its Reader."""
        reader = Reader(self, self.broker.subscribe(*args, **options))
        self.readers.append(reader)
        let_run()
        return reader

    @property
    def batches(self):
        """All batches that were committed, in order, also those trimmed since."""
        return [batch for append in self.appends if append.firsts for batch in self._published[append]]

    @property
    def log(self):
        """``(offset, topic, key)`` of every message of :attr:`batches`."""
        return [(message.offset, message.topic, message.key) for batch in self.batches for message in batch.messages()]

    def settle(self):
        """Finish everything, with every reader taking all it can get, until nothing moves any more."""
        moved = True
        while moved:
            self.store.settle()
            moved = sum(reader.take_all() for reader in self.readers) > 0
            let_run()
            moved = moved or bool(self.store.reads)

    def close(self):
        for reader in self.readers:
            reader.subscription.close()
        self.store.settle()


class Reader:
    """Takes from a subscription and remembers: ``items`` are messages ``(offset, topic, key)`` and gaps."""

    def __init__(self, stage, subscription):
        self.stage = stage
        self.subscription = subscription
        self.items = []

    def take(self):
        """Take one thing, if there is one; the subscription keeps its bounds whatever happens."""
        item = self.subscription.take()
        self.check_bounds()
        if isinstance(item, Gap):
            self.items.append(item)
        elif item is not None:
            self.items += [(message.offset, message.topic, message.key) for message in item.messages()]
        return item is not None

    def take_all(self):
        taken = False
        while self.take():
            taken = True
        return taken

    def check_bounds(self):
        queue = self.subscription.queue
        within = queue.messages <= queue.max_messages and queue.bytes <= queue.max_bytes
        assert within or queue.messages == 1, f"{queue.messages} messages of {queue.bytes} bytes are queued"

    @property
    def messages(self):
        return [item for item in self.items if not isinstance(item, Gap)]

    @property
    def gaps(self):
        return [item for item in self.items if isinstance(item, Gap)]

    def check_told(self, expected, gone=(), exact=True):
        """Assert that *expected* came in order, each once, or lies in a gap that was told in its place.

        Of those at the offsets *gone* nothing need be said. The gaps count what did not come; not *exact*:
        a message that was told lost may come all the same, from memory.
        """
        messages, gaps = self.messages, self.gaps
        assert messages == sorted(messages), "messages come in the order of their offsets"
        assert len(set(messages)) == len(messages), "no message comes twice"
        assert set(messages) <= set(expected), f"not asked for: {sorted(set(messages) - set(expected))}"
        missing = sorted(lost for lost in set(expected) - set(messages) if lost[0] not in gone)
        for lost in missing:
            assert any(gap.first <= lost[0] < gap.next for gap in gaps), f"{lost} is in no gap: {self.items}"
        self._check_places(missing)
        if all(gap.count is not None for gap in gaps):
            told = sum(gap.count for gap in gaps)
            assert told == len(missing) or (not exact and told > len(missing)), f"{gaps} for the missing {missing}"

    def _check_places(self, missing):
        """A gap comes after all messages before it, and before any that follows what it tells of."""
        told = []
        for item in self.items:
            if isinstance(item, Gap):
                assert item.first < item.next
                told.append(item)
                continue
            for lost in missing:
                assert lost[0] > item[0] or any(gap.first <= lost[0] < gap.next for gap in told), (
                    f"{item} came before the gap of {lost}: {self.items}")
        seen, begins = -1, 0
        for item in self.items:
            if isinstance(item, Gap):
                assert item.first > seen, f"{item} came after message {seen}: {self.items}"
                if item.why != "retention":     # what retention left of other topics in its range still comes
                    begins = item.next
            else:
                seen = item[0]
                assert seen >= begins, f"message {seen} came after a gap up to {begins}: {self.items}"
