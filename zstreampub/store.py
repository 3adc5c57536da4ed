"""Store: the contract of a durable log, and its laws.

Whoever writes a store makes the contract tests (``tests/unit/test_store_contract.py``)
pass; the broker relies on these laws and on nothing else.

1. Offsets grow strictly with the order of appends, over all topics. Within a batch
   they are ``first, first + 1, ...``; between batches there may be holes.
2. An append is all or none. Its batches get their offsets in one transaction, next to
   each other in the order given, and ``time`` never steps back, whatever the clock does.
3. What the follower is told is on disk: committed and, under ``durability="sync"``, fsynced.
4. The follower is told everything that is appended, once, in offset order, on the hub
   that opened the store. A failed append is told as well, with its error.
5. An offset that was given out is never given to another message, also not after a crash.
6. An append that repeats a producer's sequence is not stored again: it is told with the
   firsts of the original and ``duplicate`` set.
7. Reading never waits for writing. ``append``, ``bounds`` and ``trim_mark`` never wait at all;
   every other verb may hold the calling greenlet, none holds the hub.
8. A reader that finds messages trimmed away under it is told so, from the same snapshot
   from which it got the messages.
9. What one append carries (batches, changes, records) is one transaction. Changes are read back
   by :meth:`Store.journal` in the order of the appends that carried them, those of a failed append never.
10. A message whose id its topic had within the window of ids is not stored again: it is told
   with the offset of the original and ``duplicate`` set, also after a restart.
11. What is guarded is not removed by retention, up to ``keep_factor`` times the limit.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple


class Append:
    """What is to be stored together, and what became of it.

    The caller sets ``batches`` (unsealed; may be empty if something else is there), optionally
    ``changes`` (a list of bytes for the journal), ``records`` (a dict of key -> bytes, or None to
    delete), ``journal_from`` (changes whose number is below it may be forgotten), ``expected_next``
    (a dict of topic -> the offset after its newest message, 0 for a topic without any: if it is
    another, NextMismatch and nothing is stored), ``producer`` (1 to 64 bytes) with ``sequence``
    (0 <= n < 2**63, growing by at least one with each new request of that producer), ``deadline``
    (``time.monotonic()`` seconds: not run later than that), and ``reply``, which the store passes
    through untouched. The store sets either ``firsts`` (the first offset of each batch; then the
    batches are sealed) or ``error``. ``journal_next`` is the
    number that the change after its last one gets (None if it repeats a sequence). An append whose ``size`` is 0
    (it was made without batches) is not refused for want of room, as long as the store's reserve lasts.

    A batch all of whose messages repeat ids, in one row, is not stored: its place is in ``repeats``, its first
    in ``firsts`` is that of the original, and it is not sealed; the rest of the append is stored. ``duplicate``
    is set if there is no rest.
    """

    __slots__ = ("batches", "producer", "sequence", "deadline", "reply", "size", "count", "changes", "records",
                 "journal_from", "expected_next", "journal_next", "firsts", "repeats", "error", "duplicate")

    def __init__(self, batches=(), reply=None, producer=None, sequence=None, deadline=None, *,
                 changes=(), records=None, journal_from=None, expected_next=None):
        self.batches = batches
        self.changes = changes
        self.records = records
        self.journal_from = journal_from
        self.expected_next = expected_next
        self.journal_next = None
        self.reply = reply
        self.producer = producer
        self.sequence = sequence
        self.deadline = deadline
        self.size = self.count = 0
        for batch in batches:
            self.size += batch.size
            self.count += batch.count
        self.firsts = None
        self.repeats = ()
        self.error = None
        self.duplicate = False

    def stored(self):
        """Return the batches that were stored, once it is known."""
        if self.duplicate:
            return ()
        if not self.repeats:
            return self.batches
        return [batch for at, batch in enumerate(self.batches) if at not in self.repeats]

    def forget_bytes(self):
        """Let go of the batches; the outcome, ``size`` and ``count`` stay."""
        self.batches = self.changes = ()
        self.records = None


@dataclass(frozen=True)
class Gap:
    """Messages that a reader will not get: some in ``[first, next)``.

    ``count`` is how many of them the reader had asked for, None where nobody knows.
    ``why`` is one of ``retention``, ``drop``, ``drop_oldest``, ``conflate``, or a policy's own word.
    """

    first: int
    next: int
    count: "int | None"
    why: str

    def joined(self, other):
        """Return one gap that covers this one and *other* (or None), for the reason of this one."""
        if other is None:
            return self
        count = None if self.count is None or other.count is None else self.count + other.count
        return Gap(min(self.first, other.first), max(self.next, other.next), count, self.why)


class Chunk(NamedTuple):
    """What one read found: ``gap`` (or None) comes before ``batches``; go on at ``next``.

    ``trims`` is the trim mark of the snapshot; hand it to the next read.
    """

    batches: list
    next: int
    gap: "Gap | None"
    trims: int


class Guard(NamedTuple):
    """Retention leaves the messages of *wanted* at or after *first* alone; *name* says on whose behalf."""

    name: str
    wanted: object      # topics.PatternSet
    first: int


class Measure(NamedTuple):
    """How much there is: ``messages``, ``bytes``, and ``oldest_us``, the time of the first one (None if none)."""

    messages: int
    bytes: int
    oldest_us: "int | None"


class Store(ABC):
    """A durable log. ``epoch`` (32 hex digits) names it; it changes when the log is made anew."""

    epoch: str

    @abstractmethod
    def follow(self, deliver, died=None, removed=None):
        """Tell ``deliver(appends)`` everything from now on (one follower; call before the first append).

        *appends* is a non-empty list of finished :class:`Append`, in offset order.
        ``died(error)`` is told the StoreError after which nothing can be appended any more,
        also if nobody is appending. ``removed(removals)`` is told what a trim or retention has taken, a list of
        ``(topic, first, next)``, after it is on disk. All run on the hub and must not wait or raise.
        """

    @abstractmethod
    def append(self, append):
        """Queue *append*; never wait. May be called from the opener's hub only.

        Its outcome is told to the follower: StoreFull, DeadlineExceeded, SequenceTooOld,
        LimitExceeded (too many topics) or StoreError. Raises StoreClosed after :meth:`close`.
        """

    @abstractmethod
    def bounds(self):
        """Return ``(first, next)``: the first offset that is kept, and the one that comes next."""

    @abstractmethod
    def trim_mark(self):
        """Return the current trim mark: a number that grows with every trim."""

    @abstractmethod
    def read(self, cursor, wanted, next, max_messages, max_bytes, trims):
        """Return a :class:`Chunk` of the messages in ``[cursor, next)`` whose topic is in *wanted*.

        *wanted* is a :class:`~zstreampub.topics.PatternSet`. The batches are in offset order,
        cut so that all their messages lie in the range and there are at most *max_messages*;
        their bytes are at most *max_bytes*, but one message always comes if there is one.
        ``chunk.next`` is where to go on: past everything that was looked at, so a chunk may be
        empty and yet progress. Where the end of the log was reached, it is that end (or *next*).
        If topics of *wanted* lost messages at or after *cursor* by trims later than the mark
        *trims*, ``chunk.gap`` says so.
        """

    @abstractmethod
    def get(self, offset):
        """Return the one message at *offset* as a batch of one, or None."""

    @abstractmethod
    def last(self, topic, key=None):
        """Return the newest message of *topic* (and *key*) as a batch of one, or None."""

    @abstractmethod
    def newest(self, wanted, next):
        """Return the newest message below *next* of each wanted topic: batches of one, in offset order."""

    @abstractmethod
    def offset_at(self, time_us):
        """Return the offset of the first message at or after *time_us* (microseconds); ``next`` if none."""

    @abstractmethod
    def offset_of_last(self, wanted, count):
        """Return the offset from which on there are *count* wanted messages (all there are, if fewer)."""

    @abstractmethod
    def topics(self, wanted):
        """Return a list of ``{"topic", "messages", "bytes", "next"}``, sorted by topic.

        ``messages`` and ``bytes`` are what is kept, ``next`` is the offset after its newest message.
        """

    @abstractmethod
    def trim(self, wanted, next):
        """Remove the messages of *wanted* below *next*, whole batches only, in small steps.

        Guards do not hold it back: whoever calls it decides.
        Returns how many messages went. The first offset never steps back.
        """

    @abstractmethod
    def guard(self, guards):
        """Set the guards, a list of :class:`Guard`, in place of all earlier ones; never wait.

        They count for appends and removals after everything that is queued already. Where there were any
        when the store was closed, or died, retention removes nothing until this is called.
        """

    @abstractmethod
    def measure(self, wanted, first, next):
        """Return the :class:`Measure` of the messages of *wanted* in ``[first, next)``, counted in the log."""

    @abstractmethod
    def journal(self):
        """Return ``[(number, change), ...]``, all that is kept, in order; numbers grow by one."""

    @abstractmethod
    def records(self, prefix, after=None, most=1000):
        """Return ``[(key, value), ...]``, in the order of the keys, of at most *most* records.

        Those whose key (at most 480 bytes) begins with *prefix* and sorts after *after*.
        """

    @abstractmethod
    def stats(self):
        """Return plain counters for the operator; the keys are documented in docs/operations.rst."""

    @abstractmethod
    def check(self):
        """Read the whole store; raise StoreCorrupt at the first thing that is not as it must be."""

    @abstractmethod
    def close(self):
        """Finish what is pending, then close. Calling it again does nothing."""
