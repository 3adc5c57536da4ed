"""Core: what all rooms of the consumers stand on: finding, touching, guarding, waiting for the disk."""

import logging

import gevent
from gevent.event import AsyncResult
from gevent.lock import RLock

from ..errors import InvalidOption, StoreClosed, UnknownConsumer, ZStreamPubError
from ..policy import Spill
from ..store import Append, Guard
from . import journal
from .clock import Clock
from .consumer import Consumer
from .dead import Burial, DeadLetters, Undertaker
from .rereading import Rereading
from .snapshot import Snapshots
from .timing import Timing
from .writing import Writing

logger = logging.getLogger(__name__)

GUARD_S = 1.0
ALL_READERS_BYTES = 64 << 20    # that consumers have read and not handed out
_MOST_READER_BYTES, _LEAST_READER_BYTES = 1 << 20, 32 << 10


class Core:
    """``by_name`` has every Consumer. ``draining``: members end, and acks are taken still.

    ``readers``: how many consumers read the log now, or follow it.
    """

    clock = Clock()

    def __init__(self, broker):
        self.broker = broker
        self.store = broker.store
        self.settings = broker.settings
        self.by_name = {}
        self.on_acked = []
        self.acked_messages = 0
        self._watched = {}          # offset -> functions
        self._locks = {}            # name -> [RLock, how many use it]
        self._guards = {}           # name -> Guard
        self._moved = set()         # consumers whose guard is not up to date
        self._guard_timer = None
        self.draining = False
        self.readers = 0
        self._closed = False
        self._writing = Writing(self)
        self._timing = Timing(self.look_at, lambda: self.clock)
        self._snapshots = Snapshots(self, self._writing)

    # --- finding ---------------------------------------------------------------------------------------

    def find(self, name):
        """Return the Consumer called *name*, or raise UnknownConsumer."""
        consumer = self.by_name.get(name) if isinstance(name, str) else None
        if consumer is None:
            raise UnknownConsumer(f"There is no consumer {name!r:.120}. Create it by create_consumer, or join it with "
                                  "patterns.", consumer=name if isinstance(name, str) else None)
        return consumer

    def wanting(self, topic):
        """Return the names of the consumers that want *topic*."""
        return [consumer.name for consumer in self.by_name.values() if topic in consumer.wanted]

    def add(self, name, wanted, options, state, created_us):
        """File a new Consumer and return it."""
        consumer = Consumer(self, name, wanted, options, state, created_us)
        consumer.dead = DeadLetters(name)
        consumer.undertaker = Undertaker(consumer)
        consumer.rereading = Rereading(consumer)
        self.by_name[name] = consumer
        return consumer

    # --- what consumers use ------------------------------------------------------------------------------

    @property
    def token(self):
        return self._writing.token

    @property
    def end(self):
        return self.broker.next

    def new_token(self):
        return self._writing.new_token()

    @property
    def reader_bytes(self):
        """How much each of those who read may have read ahead of its members: they share what all may have."""
        return min(_MOST_READER_BYTES, max(_LEAST_READER_BYTES, ALL_READERS_BYTES // max(self.readers, 1)))

    def touch(self, consumer):
        self._writing.touch(consumer)

    def watch_time(self, consumer, when):
        if not consumer.deleted:
            self._timing.watch(consumer, when)

    def spill(self):
        return Spill()

    def bury(self, consumer, lease, why, error, told=None, undo=None):
        consumer.undertaker.bury(Burial(consumer.state, lease, why, error, told, undo))

    def left(self, consumer, member):
        """Learn that *member* has left."""
        self.broker.subscriptions.pop(member.id, None)
        if consumer.inactive_at is not None:
            self.watch_time(consumer, consumer.inactive_at)

    def forget_instead(self, consumer, runs):
        """Drop what replaced the payloads of *runs*."""
        for offset in [one for one in consumer.instead
                       if any(first <= one < next for first, next in zip(runs[::2], runs[1::2]))]:
            del consumer.instead[offset]
            self._writing.current.records[journal.instead_key(consumer.state.id, offset)] = None
        self._writing.schedule()

    def written(self, flush):
        """Learn that *flush* is on disk."""
        self._snapshots.look()

    def moved(self, consumer):
        """Learn that *consumer* may hold less of the log than before."""
        self._moved.add(consumer)
        self._guard_soon()

    def report(self, error):
        return self.broker.report(error)

    def as_ours(self, error):
        return error if isinstance(error, ZStreamPubError) else self.report(error)

    # --- time ------------------------------------------------------------------------------------------

    def tick(self):
        """Look at the clock now: deadlines, redeliveries. A timer does it at the right times."""
        self._timing.tick()

    def look_at(self, consumer, now):
        """Do what is due of *consumer*; return when to look again, or None."""
        return consumer.look_at_time(now)

    # --- guards ------------------------------------------------------------------------------------------

    def guard(self, *changed):
        """Tell the store at once what it must not remove for the sake of the consumers that have *changed*."""
        for name in {consumer.name for consumer in changed}:
            consumer = self.by_name.get(name)
            if consumer is not None and consumer.options.retention == "keep":
                self._guards[name] = Guard(name, consumer.wanted, consumer.state.floor)
            else:
                self._guards.pop(name, None)
        self.store.guard(list(self._guards.values()))

    def _guard_soon(self):
        if self._guard_timer is None and not self._closed:
            self._guard_timer = gevent.get_hub().loop.timer(GUARD_S, ref=False)
            self._guard_timer.start(self._guard_now)

    def _guard_now(self):
        self._stop_guard_timer()
        moved, self._moved = self._moved, set()
        try:
            self.guard(*moved)
        except StoreClosed:
            pass        # or dead: then it removes nothing

    def _stop_guard_timer(self):
        timer, self._guard_timer = self._guard_timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    def removed(self, removals):
        """Learn that retention or a trim has removed *removals*, ``(topic, first, next)`` (the store tells)."""
        highest = max(next for _, _, next in removals)
        for consumer in tuple(self.by_name.values()):
            state = consumer.state
            if not state.pending or (state.floor >= highest and not state.ahead):
                continue
            for topic, first, next in removals:
                if topic in consumer.wanted:
                    consumer.removed(first, next)

    # --- admin -------------------------------------------------------------------------------------------

    def locked(self, name):
        """Return a context in which nobody else creates, changes or deletes *name*; waits."""
        if not isinstance(name, str):
            raise InvalidOption(f"The name of a consumer is text, not {type(name).__name__}.", option="consumer")
        return _Locked(self._locks, name)

    def write_head(self, consumer, state=None, **changes):
        """Have the head of *consumer* written with the next flush; not while it is moved or deleted, or after that."""
        if consumer.deleted or consumer.frozen:
            return
        self._writing.current.records[journal.head_key(consumer.name)] = self.pack_head(consumer, state, **changes)
        self._writing.schedule()

    def pack_head(self, consumer, state=None, **changes):
        state = state or consumer.state
        fields = {
            "name": consumer.name, "id": state.id, "patterns": list(consumer.wanted.patterns),
            "options": consumer.options.as_map(), "created": consumer.created_us, "cursor": state.saved,
            "trims": state.trims,
            "ahead": sorted(offset for offset in state.ahead | state.passed if offset not in state.pending),
            "acked": state.acked, "redelivered": state.redelivered, "paused": consumer.paused, "part": state.part,
            "dead": consumer.dead.as_map(),
            "gaps": [[gap.first, gap.next, gap.count, gap.why] for gap in consumer.gaps],
        }
        return journal.pack_head({**fields, **changes})

    def append_and_wait(self, consumer, append, done):
        """Append for *consumer*, wait, and raise what went wrong; ``done()`` is called at the moment it is on disk."""
        if consumer.has_changes:        # what is noted already comes before it, or replaying would undo it
            self.touch(consumer)
            self._writing.write()
        answer = AsyncResult()

        def reply(append):
            consumer.flushed()
            try:
                if append.error is None:
                    done()
            finally:
                answer.set()
        append.reply = reply
        self.broker.append_own(append)
        consumer.flushes += 1
        answer.wait()
        if append.error is not None:
            raise append.error

    def wait_until_written(self, consumer):
        """Wait until all that was noted of *consumer* by now is on disk; raise what keeps it from it."""
        failures = None
        while failures != consumer.failures:        # what failed on the way is written again
            failures = consumer.failures
            flushes = [] if consumer.newest_flush is None else [consumer.newest_flush]
            if consumer.has_changes or consumer.unsaved:
                self.touch(consumer)
                flushes.append(self._writing.current)
            _wait_for(*flushes)

    def forget_journal(self, journal_from):
        """Have the store drop the changes below that number."""
        records = {journal.TOKEN: journal.pack_token(self.token)}       # as it was in each of them
        self.broker.append_own(Append((), _ignore, journal_from=journal_from, records=records))

    def wait_for_disk(self, records=None):
        """Have *records* and whatever has changed written; wait; raise what kept it from the disk."""
        flush = self._writing.current
        flush.records.update(records or {})
        self._writing.schedule()
        _wait_for(flush)


class _Locked:
    def __init__(self, locks, name):
        self._locks = locks
        self._name = name

    def __enter__(self):
        entry = self._locks.setdefault(self._name, [RLock(), 0])
        entry[1] += 1
        try:
            entry[0].acquire()
        except BaseException:       # killed while it waited
            self._forget(entry)
            raise

    def __exit__(self, *_):
        entry = self._locks[self._name]
        entry[0].release()
        self._forget(entry)

    def _forget(self, entry):
        entry[1] -= 1
        if not entry[1]:
            del self._locks[self._name]


def _wait_for(*flushes):
    """Wait until *flushes* are through, and raise what keeps one from the disk."""
    answers = [AsyncResult() for _ in flushes]
    for flush, answer in zip(flushes, answers):
        flush.replies.append((lambda _, error, answer=answer: answer.set(error), 0, None))
    for answer in answers:
        error = answer.get()
        if error is not None:
            raise error


def _ignore(_):
    pass
