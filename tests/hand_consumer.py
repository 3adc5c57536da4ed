"""A durable consumer by hand: its broker can crash, its clock stands still, and a book is kept of all that is seen.

Nothing is committed, told or read before the test says so, see :mod:`tests.hand_store`.
"""

import logging
from collections import deque

import gevent
import pytest

from tests.consumer_book import Book
from tests.consumer_unseen import UNSEEN
from tests.consumer_wanted import OUT
from tests.hand_member import Fetcher, Worker
from tests.hand_store import HandStore, let_run
from zstreampub import clock as calendar
from zstreampub.broker import Broker
from zstreampub.consumers import clock as consumers_clock
from zstreampub.consumers import core, snapshot, timing
from zstreampub.errors import ConsumerDeleted, StaleDelivery, StoreFull
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append
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

    def fail(self, most=None):
        """Let the disk be full for the oldest *most* appends that are pending."""
        appends, self._pending = self._pending[:most], [] if most is None else self._pending[most:]
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


class _Ear(logging.Handler):
    """Hears of internal errors; warnings of a consumer to whom the test does bad things go nowhere."""

    def __init__(self, faults):
        super().__init__(logging.ERROR)
        self._faults = faults
        self._logger = logging.getLogger("zstreampub")
        self._was = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)

    def emit(self, record):
        self._faults.append(record.exc_info[1] if record.exc_info else AssertionError(record.getMessage()))

    def close(self):
        self._logger.removeHandler(self)
        self._logger.propagate = self._was
        super().close()


class ConsumerStage:
    """A broker with one consumer, its members and calls, and the Book."""

    let_run = staticmethod(let_run)

    def __init__(self, patterns, consumer, snapshot_bytes, **settings):
        self.patterns, self.consumer = patterns, consumer
        self.wanted = PatternSet(patterns)
        self.settings = Settings(**settings)
        self.clock = HandTime()
        self._patch = pytest.MonkeyPatch()
        for module in (calendar, consumers_clock):
            self._patch.setattr(module, "time", self.clock)
        self._patch.setattr(timing.Timing, "_start", _nothing)      # time is a step of the test
        self._patch.setattr(core.Core, "_guard_soon", _nothing)
        self._patch.setattr(snapshot, "EVERY_BYTES", snapshot_bytes)
        self._patch.setattr(snapshot, "PART_OFFSETS", 2)
        self.faults = []        # what has gone wrong where nobody could be told
        self._ear = _Ear(self.faults)
        self.store = CrashStore(self.settings)
        self.book = None
        self.workers = []
        self.fetchers = []
        self.fetching = []      # greenlets of fetches that wait
        self.calls = []         # greenlets of what waits for an answer
        self.seen = 0           # the log up to here is in the book
        self.serial = self.joins = 0
        self.seeking = False
        self.joining = []       # whose join has no answer
        self.claimed = set()    # by those
        self.broker = Broker(self.store, self.settings)
        said = self.at_once(lambda: self.consumers.create(NAME, patterns, start="earliest", **consumer))
        self.book = Book(said["mode"], said["settings"], self.settings.rejoin_grace_s)
        self.look_at_log()

    @property
    def consumers(self):
        return self.broker.consumers

    @property
    def pending(self):
        return self.consumers.by_name[NAME].state.pending

    def close(self):
        gevent.killall(self.calls)
        self._cut()
        self._patch.undo()
        self._ear.close()

    # --- the disk and the clock --------------------------------------------------------

    def publish(self, topic, keys, ttl_s=None):
        """Queue one batch; each message has its own payload."""
        self.serial += 1
        payloads = [[self.serial, at] for at in range(len(keys))]
        expires = None if ttl_s is None else [self.clock.wall_us() + int(ttl_s * 1e6)] * len(keys)
        append = Append([Batch.of(topic, payloads, list(keys), **({} if expires is None else {"expires": expires}))])
        append.reply = _nothing
        self.broker.append(append)

    def commit(self, most=None):
        self.store.commit(most)
        self.look_at_log()

    def fail(self, most=None):
        self.book.failed()
        self.store.fail(most)

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
        self.consumers.tick()
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
            let_run()       # what has come due begins
            moved = moved or bool(self.store.pending or self.store.untold or self.store.reads)
            for worker in self.workers[:]:
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
        for gone in (self.calls, self.joining, self.claimed, self.workers, self.fetchers, self.fetching):
            gone.clear()
        self._cut()
        self.book.crashed()
        self.broker = Broker(self.store, self.settings)
        let_run()

    def _cut(self):
        """Cut the store off under the broker, and let that find out."""
        store, self.store = self.store, self.store.crash()
        broker, self.broker = self.broker, None
        broker.consumers.close()
        store.let_all_go()
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

    def fetch(self, count, offset=None):
        """Let somebody fetch, and wait for it until :meth:`give_up_fetching`."""
        self.joins += 1
        fetcher = Fetcher(self, f"fetch {self.joins}", by_offset=offset is not None)
        self.fetchers.append(fetcher)

        self.fetching = [one for one in self.fetching if not one.ready()]
        self.fetching.append(self.call(
            lambda: fetcher.take(self.consumers.fetch(NAME, count, timeout_s=1000, offset=offset))))

    def give_up_fetching(self):
        """Let all who wait in a fetch wait no longer; what they were given and have not seen is theirs for a while."""
        gevent.killall(self.fetching)
        self.book.gave_up()

    def settle(self, verb, entries, option=None, leaver=None):
        """Call *verb* for *entries*, ``(offset, token or None)``; the answer goes into the book.

        With UNSEEN, *leaver* is a worker that leaves.
        """
        deliveries = [offset if token is None else [offset, token] for offset, token in entries]
        options = {"nack": {"delay_s": option}, "extend": {"seconds": option}, UNSEEN: {"unseen": True}}.get(verb, {})
        self.book.come = None if self.joining or not all(one.ready() for one in self.fetching) else self.joins
        if leaver is not None:
            options = {**options, "member": leaver.member.id}
        self._settle(self.book.asked(verb, entries, option, leaver), deliveries, options)

    def ack_before(self, offset):
        """Acknowledge all that was delivered below *offset*."""
        self._settle(self.book.asked_before(offset), [], {"before": offset})

    def _settle(self, ticket, deliveries, options):
        broker, life = self.broker, self.book.cursor_life

        def answered(count, error=None):
            if broker is not self.broker or life != self.book.cursor_life:
                return      # it is from before a crash, and nobody hears it, or from before a seek
            stale = set(error.offsets) if isinstance(error, StaleDelivery) else set()
            failed = error is not None and not isinstance(error, StaleDelivery)
            assert not failed or isinstance(error, (StoreFull, ConsumerDeleted) if self.seeking else StoreFull), error
            self.look_at_log()
            self.book.answered(ticket, count, stale, failed)

        def reply(*answer):
            self._guarded(answered, *answer)
        self.consumers.settle("nack" if ticket.verb == UNSEEN else ticket.verb, NAME, deliveries, options, reply)
        let_run()

    def call(self, function):
        """Let *function* run in a greenlet of its own, until it waits for the store."""
        self.calls.append(gevent.spawn(self._guarded, function))
        let_run()
        return self.calls[-1]

    def _guarded(self, function, *args):
        try:
            function(*args)
        except Exception as error:      # or the broker would only log it
            self.faults.append(error)

    def look_at_calls(self):
        """Raise what went wrong in a call, or is in the log as an internal error."""
        self.calls = [call for call in self.calls if not call.ready()]
        if self.faults:
            raise self.faults[0]

    def at_once(self, function):
        """Return what *function* returns, with the store doing all that it waits for."""
        greenlet = gevent.spawn(function)
        for _ in range(100):
            let_run()
            if greenlet.ready():
                self.look_at_log()
                return greenlet.get()
            self.store.commit()
            self.tell()
            self.store.let_read()
        raise AssertionError("there is no answer, and the store has nothing to do")

    # --- steering --------------------------------------------------------------------

    def pause(self):
        self.at_once(lambda: self.consumers.pause(NAME))

    def resume(self):
        self.book.paused = False
        self.at_once(lambda: self.consumers.resume(NAME))

    def seek(self, where):
        """Go on at *where*: an offset, "new" or "earliest"."""
        self.give_up_fetching()     # nobody could tell what it brings from what it brought before
        while self.store.pending or self.store.untold:
            self.commit()
            self.tell()
        cursor = {"new": self.broker.next, "earliest": self.store.bounds()[0]}.get(where, where)
        self.seeking = True
        self.at_once(lambda: self.consumers.seek(NAME, where))
        self.seeking = False
        self.book.sought(cursor)

    def redrive(self, offsets):
        self._settle_letters(self.consumers.redrive, offsets)

    def purge(self, offsets):
        self._settle_letters(self.consumers.purge, offsets)

    def _settle_letters(self, verb, offsets):
        before = self._letters(offsets)
        count = self.at_once(lambda: verb(NAME, offsets=offsets))
        letters = sorted(self._letters(offsets))[:count]     # also what has died before it was the verb's turn
        assert len(before) <= count == len(letters), f"{count} letters were settled, of {before}"
        self.book.settled_letters(letters)

    def _letters(self, offsets):
        return [letter for letter in self.book.letters if offsets is None or letter in offsets]

    # --- looking ---------------------------------------------------------------------

    def describe(self):
        return self.at_once(lambda: self.consumers.describe(NAME))

    def browse(self):
        return self.at_once(lambda: self.consumers.browse(NAME, limit=10_000))

    def held_by(self, holder):
        """Return ``(offset, token)`` of what *holder* was given, as far as it knows, and has not settled."""
        return [(one.offset, one.tokens[-1]) for one in self.book.wanted.values()
                if one.holder is holder and one.state == OUT and not one.asked]

    def look_at_log(self):
        """Take into the book what was committed since the last look."""
        if self.book is None:
            return
        for batch in self.store.all_from(self.seen):
            expires = batch.metadata.get("expires") or [None] * batch.count
            for message, end_us in zip(batch.messages(), expires):
                if message.offset >= self.seen:
                    self._note(message, None if end_us is None else end_us / 1e6 - EPOCH_S)
        self.seen = self.store.bounds()[1]

    def _note(self, message, expires):
        if message.topic == f"$dead.{NAME}":
            said = message.headers
            self.book.died(message.offset, said["dead-offset"], said["dead-reason"], said["dead-deliveries"],
                           message.key, message.payload)
        elif message.topic in self.wanted:
            self.book.committed(message.offset, message.key, message.payload, expires)


def _nothing(*_):
    pass
