"""A durable consumer by hand: its broker can crash, its clock stands still, and a book is kept of all that is seen.

Nothing is committed, told or read before the test says so, see :mod:`tests.hand_store`.
"""

import logging
from collections import deque

import gevent

from tests.consumer_book import Book
from tests.hand_store import HandStore, let_run
from zstreampub import clock as calendar
from zstreampub.broker import Broker
from zstreampub.consumers import clock as consumers_clock
from zstreampub.errors import StaleDelivery, StoreFull
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append, Gap
from zstreampub.stores.memory import MemoryStore
from zstreampub.topics import PatternSet

EPOCH_S = 1_700_000_000     # the calendar at the time 0 of the test
EVERYTHING = PatternSet([">", "$dead.>"])
NAME = "c"
PLENTY = 1 << 40


class HandTime:
    """Stands where the clocks of the server have the module ``time``."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds

    def time_ns(self):
        return self.wall_us() * 1000

    def wall_us(self):
        return int((EPOCH_S + self.seconds) * 1e6)


class CrashStore(HandStore):
    """A HandStore that can be cut off in the middle of everything, and whose commits can fail."""

    def commit(self, most=None):
        """Commit the oldest *most* appends that are pending."""
        rest = [] if most is None else self._pending[most:]
        self._pending = self._pending[:len(self._pending) - len(rest)]
        self._commit()
        self._pending = rest + self._pending

    def fail(self):
        """Let the disk be full for all that is pending."""
        appends, self._pending = self._pending, []
        for append in appends:
            append.error = StoreFull("No room, says the test.")
        if appends:
            self._committed.append(appends)

    @property
    def tells_of_failure(self):
        """Whether the next thing to tell is one that failed."""
        return bool(self._committed) and any(append.error is not None for append in self._committed[0])

    def crash(self):
        """Return a store with what was committed; this one takes part in nothing any more."""
        after = type(self).__new__(type(self))
        after.__dict__.update(self.__dict__)
        after._pending, after._committed, after._asked = [], deque(), deque()
        after._follower = after._deliver = after._removed_told = None
        self._pending, self._committed, self._closed = [], deque(), True
        return after

    def let_all_go(self):
        """After a crash: whoever waits here is told that the store is closed."""
        while self._asked:
            self._asked.popleft().set()

    def guard(self, guards):
        if not self._closed:
            super().guard(guards)

    def all_from(self, cursor):
        """Return the batches from *cursor* on, at once."""
        return MemoryStore.read(self, cursor, EVERYTHING, PLENTY, PLENTY, PLENTY, self.trim_mark()).batches


class ConsumerStage:
    """A broker with one consumer, its members and calls, and the Book."""

    def __init__(self, patterns, consumer, **settings):
        self.patterns, self.consumer = patterns, consumer
        self.wanted = PatternSet(patterns)
        self.settings = Settings(**settings)
        self.clock = HandTime()
        self._times = [(module, module.time) for module in (calendar, consumers_clock)]
        for module, _ in self._times:
            module.time = self.clock
        self._level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        self.store = CrashStore(self.settings)
        self.book = None
        self.workers = []
        self.calls = []         # greenlets of what waits for an answer
        self.seen = 0           # the log up to here is in the book
        self.joins = 0
        self.joining = []       # whose join has no answer
        self.claimed = set()    # by those
        self._open()
        self.at_once(lambda: self.broker.consumers.create(NAME, patterns, start="earliest", **consumer))
        self.book = Book(self.describe()["settings"] | {"mode": self.describe()["mode"]}, self.settings.rejoin_grace_s)
        self.look_at_log()

    def _open(self):
        self.broker = Broker(self.store, self.settings)

    def close(self):
        for module, time in self._times:
            module.time = time
        logging.disable(self._level)
        gevent.killall(self.calls)
        self.broker, broker = None, self.broker
        self._cut(broker)

    def _cut(self, broker):
        """Cut the store off under *broker*, and let that find out."""
        store, self.store = self.store, self.store.crash()
        broker.consumers.close()
        store.let_all_go()
        let_run()

    # --- steps -----------------------------------------------------------------------

    def publish(self, topic, keys, ttl_s=None):
        """Queue one batch; each message has its own payload."""
        self.serial = getattr(self, "serial", 0) + 1
        payloads = [[self.serial, at] for at in range(len(keys))]
        expires = None if ttl_s is None else [self.clock.wall_us() + int(ttl_s * 1e6)] * len(keys)
        append = Append([Batch.of(topic, payloads, list(keys), **({} if expires is None else {"expires": expires}))])
        append.reply = _nothing
        self.broker.append(append)

    def commit(self, most=None):
        self.store.commit(most)
        self.look_at_log()

    def fail(self):
        self.book.failed()
        self.store.fail()

    def tell(self):
        failed = self.store.tells_of_failure
        self.store.tell()
        if failed:
            self.book.failed()

    def let_read(self):
        self.store.let_read()

    def advance(self, seconds):
        self.clock.seconds += seconds
        self.book.advanced(self.clock.seconds)
        self.tick()

    def tick(self):
        """Let the consumers look at the clock."""
        self.broker.consumers.tick()
        let_run()

    def flow(self):
        """Finish everything that is under way, with all members taking what they can get."""
        moved = True
        while moved:
            let_run()
            moved = bool(self.store.pending or self.store.untold or self.store.reads)
            self.commit()
            self.tell()
            self.let_read()
            self.tick()
            for worker in self.workers:
                moved = worker.take_all() or moved

    def trim(self, next):
        """Remove what is below *next*, but for dead letters."""
        self.store.trim(PatternSet([">"]), next)
        self.book.removed([offset for offset in self.book.wanted if self.store.get(offset) is None])
        let_run()

    def crash(self):
        """Drop the broker; open another one from what was committed."""
        self.look_at_log()
        gevent.killall(self.calls)
        self.calls.clear()
        self.joining.clear()
        self.claimed.clear()
        self.workers.clear()
        self.broker, broker = None, self.broker
        self._cut(broker)
        self.book.crashed()
        self._open()
        let_run()

    # --- members and calls -----------------------------------------------------------

    def join(self, max_in_flight, held=(), before=None):
        """Let a member join; it is a worker as soon as the broker has answered.

        *before* is the worker that it was on an earlier connection, which then ends.
        """
        self.joins += 1
        worker = Worker(self, f"member {self.joins}", max_in_flight, before)
        self.joining.append(worker)
        for one in self.joining:
            one.overlaps = one.overlaps or len(self.joining) > 1
        self.claimed.update(held)

        def join():
            try:
                member = self.broker.subscribe(None, consumer=NAME, max_in_flight=max_in_flight, member=worker.name,
                                               held=[list(one) for one in held])
            except StoreFull:
                self.book.refused(held)
            else:
                worker.begin(member)
            self.claimed.difference_update(held)
            self.joining.remove(worker)
        self.call(join)
        return worker

    def settle(self, verb, entries, option=None):
        """Call *verb* for *entries*, ``(offset, token or None)``; the answer goes into the book."""
        ticket = self.book.asked(verb, entries, option)
        options = {"nack": {"delay_s": option}, "extend": {"seconds": option}}.get(verb, {})

        broker = self.broker

        def reply(count, error=None):
            if broker is not self.broker:
                return      # nobody hears it: this was before the crash
            stale = set(error.offsets) if isinstance(error, StaleDelivery) else set()
            failed = error is not None and not isinstance(error, StaleDelivery)
            assert not failed or isinstance(error, StoreFull), error
            self.look_at_log()
            self.book.answered(ticket, count, stale, failed)
        deliveries = [offset if token is None else [offset, token] for offset, token in entries]
        self.broker.consumers.settle(verb, NAME, deliveries, options, reply)
        let_run()

    def call(self, function):
        """Let *function* run in a greenlet of its own, until it waits for the store."""
        self.calls.append(gevent.spawn(function))
        let_run()
        for call in self.calls[:]:
            if call.ready():
                self.calls.remove(call)
                call.get()

    def at_once(self, function):
        """Return what *function* returns, with the store doing all that it waits for."""
        greenlet = gevent.spawn(function)
        for _ in range(100):
            let_run()
            if greenlet.ready():
                return greenlet.get()
            self.store.commit()
            self.store.tell()
            self.store.let_read()
        raise AssertionError("there is no answer, and the store has nothing to do")

    def describe(self):
        return self.at_once(lambda: self.broker.consumers.describe(NAME))

    def browse(self):
        return self.at_once(lambda: self.broker.consumers.browse(NAME, limit=10_000))

    # --- looking ---------------------------------------------------------------------

    def look_at_log(self):
        """Take into the book what was committed since the last look."""
        if self.book is None:
            return
        for batch in self.store.all_from(self.seen):
            for message, expires in zip(batch.messages(), batch.metadata.get("expires") or [None] * batch.count):
                if message.offset < self.seen:
                    continue
                if message.topic == f"$dead.{NAME}":
                    said = message.headers
                    self.book.died(message.offset, said["dead-offset"], said["dead-reason"], said["dead-deliveries"],
                                   message.key, message.payload)
                elif batch.topic in self.wanted:
                    self.book.committed(message.offset, message.key, message.payload,
                                        None if expires is None else expires / 1e6 - EPOCH_S)
        self.seen = self.store.bounds()[1]


class Worker:
    """A member, and what it was given and has not settled."""

    def __init__(self, stage, name, max_in_flight, before=None):
        self.stage, self.name, self.max_in_flight, self.before = stage, name, max_in_flight, before
        self.asked_at = stage.clock.seconds, stage.book.step
        self.overlaps = False   # with the join of another, so that nobody can know which was first
        self.member = None

    def begin(self, member):
        self.member = member
        self.stage.workers.append(self)
        self.stage.book.joined(self, member.held, *self.asked_at)
        if self.before in self.stage.workers:
            self.before.leave()

    def take(self):
        """Take one thing, if there is one; return whether there was."""
        self.stage.look_at_log()
        item = self.member.take()
        book = self.stage.book
        if item is None:
            return False
        if isinstance(item, Gap):
            book.gap(item.first, item.next, item.count, item.why)
        elif hasattr(item, "batch"):
            for message in item.batch.messages():
                book.handed(self, message.offset, item.delivery, item.token, book.now + item.deadline_s)
        return True

    def take_all(self):
        taken = False
        while self.take():
            taken = True
        return taken

    def leave(self):
        self.stage.workers.remove(self)
        self.member.close()
        self.stage.book.left(self)
        let_run()

    @property
    def has(self):
        """``(offset, token)`` of what it was given, as far as it knows, and has not settled."""
        return [(one.offset, one.tokens[-1]) for one in self.stage.book.wanted.values()
                if one.holder is self and one.state == "out" and not one.asked]


def _nothing(_):
    pass
