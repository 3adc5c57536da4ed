"""Retention: which topics a rule governs, how much of them is too much, and what a reader lost by it.

Decides only; the stores remove. Whole batches go, the oldest of all topics of a rule first
(choosers.py says which).

What a guard holds back (guards.py) is passed over, and others go as if it had gone: a consumer
that does not acknowledge costs room, but nobody else's messages. If that comes to ``keep_factor``
times the limit, it goes all the same, or appends are refused (``keep_over``).
"""

from bisect import insort

from ..errors import HeldByConsumer
from ..store import Gap
from ..topics import check_pattern, matches
from .choosers import Excess, Freed, Surplus

HISTORY_STEPS = 1024    # trims whose removals are remembered batch by batch, so that a gap can be counted
MOST_STRETCHES = 1024   # more of them are taken for one
_SLACK = 16             # removing starts at once when a limit is passed by more than 1/16 of it


class Limits:
    """One retention rule, with what is kept of all its topics together.

    ``cursor``: whatever this rule governs and is kept below it is held, so a rule walks the log
    only once that way, however many other topics, or held batches, lie in between. ``added`` counts
    the messages that have ever come.
    """

    def __init__(self, rule, keep_factor=4.0, keep_over="gap"):
        check_pattern(rule.pattern)
        self.rule = rule
        self.messages = 0
        self.bytes = 0
        self.added = 0
        self.cursor = 0
        self.oldest_us = 0      # no governed batch that is kept from the cursor on is older
        self.held = Held()
        self.refusing = False   # appends to its topics
        self.keep_factor = keep_factor
        self._refuses = keep_over == "refuse"

    def governs(self, name):
        return matches(self.rule.pattern, name)

    @property
    def low(self):
        """Nothing governed is kept below this offset."""
        return self.held.first if self.held.messages else self.cursor

    def begin_at(self, offset):
        """Set the cursor of a log that was opened: nothing governed is kept below *offset*."""
        self.cursor = offset
        self.nothing_held()

    def urgent(self):
        """Tell whether so much is over a limit that it should not wait for the next look.

        A little is let be: each removal costs an fsync, and one after every append
        would halve the rate of publishing.
        """
        if self._over_besides(1 + 1 / _SLACK):
            return True
        held = self.held
        if not held.messages:
            return False
        if held.free and self.over(self.messages, self.bytes):
            return self.refusing or sum(one.high - one.low for one in held.free) * _SLACK > self.messages
        return not self.refusing and self.over(self.messages, self.bytes, self.keep_factor * (1 + 1 / _SLACK))

    def over(self, messages, size, factor=1.0):
        """Tell whether so much is over a limit."""
        rule = self.rule
        return ((rule.max_messages is not None and messages > rule.max_messages * factor)
                or (rule.max_bytes is not None and size > rule.max_bytes * factor))

    def expired(self, time_us, now_us, factor=1.0):
        return self.rule.max_age_s is not None and time_us < now_us - self.rule.max_age_s * factor * 1e6

    def overheld(self, now_us):
        """Tell whether more is held than ``keep_factor`` allows, after everything that may go has gone."""
        held = self.held
        return held.messages > 0 and not self._over_besides() and (
            self.over(self.messages, self.bytes, self.keep_factor)
            or self.expired(held.oldest_us, now_us, self.keep_factor))

    def _over_besides(self, factor=1.0):
        return self.over(self.messages - self.held.messages, self.bytes - self.held.bytes, factor)

    # --- what to do next -------------------------------------------------------------

    def walk(self, guards, now_us):
        """Return what makes the chooser of the next walk, or None if there is nothing to remove."""
        held = self.held
        if held.messages:
            over = self.over(self.messages, self.bytes)
            for one in held.free:
                if over or self.expired(one.oldest_us, now_us):
                    return lambda: Freed(self, guards, now_us, one)
        if self.messages > held.messages and (self._over_besides() or self.expired(self.oldest_us, now_us)):
            return lambda: Excess(self, guards, now_us)
        if self.overheld(now_us) and not (self._refuses and held.topic is not None):
            return lambda: Surplus(self, now_us, remove=not self._refuses)
        return None

    def judge(self, now_us):
        """Decide whether appends are refused; the answer is ``refusing``."""
        self.refusing = self._refuses and self.held.topic is not None and self.overheld(now_us)

    def refusal(self, guards):
        """Return the error of an append that is refused."""
        rule = self.rule
        guard = None if self.held.topic is None else guards.oldest(self.held.topic)
        limits = [f"{name}={value}" for name, value in (
            ("max_age_s", rule.max_age_s), ("max_bytes", rule.max_bytes), ("max_messages", rule.max_messages),
        ) if value is not None]
        consumer = "a consumer" if guard is None else f"consumer {guard.name!r}"
        return HeldByConsumer(
            f"The topics of retention rule {rule.pattern!r} ({', '.join(limits)}) hold {self.messages} messages of "
            f"{self.bytes} bytes, and {consumer} has not acknowledged those that would have to go, from offset "
            f"{self.held.first} on. That is over keep_factor ({self.keep_factor:g}) times the limit. Let it "
            "acknowledge, delete or seek it, or trim; or raise keep_factor, or set keep_over to 'gap'.",
            rule=rule.pattern, consumer=None if guard is None else guard.name, first=self.held.first,
            messages=self.messages, bytes=self.bytes, keep_factor=self.keep_factor)

    # --- what has happened -----------------------------------------------------------

    def freed(self, low, high):
        """Learn that guards have left something in ``[low, high)``."""
        if self.held.messages and low < self.cursor:
            self.held.let_go(max(low, self.held.first), min(high, self.cursor))

    def gone(self, first, messages, size):
        """Learn that so much of the batch at *first* has been removed."""
        held = self.held
        if first >= self.cursor or not held.messages:
            return
        held.messages -= messages
        held.bytes -= size
        held.topic = None       # it may have been the oldest
        if held.messages <= 0:
            self.nothing_held()

    def nothing_held(self):
        self.held = Held()


class Stretch:
    """Batches below a rule's cursor that a guard has left; none is older than ``oldest_us``."""

    __slots__ = ("low", "high", "oldest_us")

    def __init__(self, low, high):
        self.low = low
        self.high = high
        self.oldest_us = 0

    def __lt__(self, other):
        return self.low < other.low


class Held:
    """What a rule would have removed, were it not for guards; it lies below the rule's cursor.

    Nothing of it lies below ``first`` or is older than ``oldest_us``; exactly so if ``topic``, that
    of the oldest batch, is known. ``free``: where guards have moved on since, sorted.
    """

    def __init__(self):
        self.messages = 0
        self.bytes = 0
        self.first = 0
        self.oldest_us = 0
        self.topic = None
        self.free = []

    def begin(self, batch):
        self.first, self.oldest_us, self.topic = batch.first, batch.time_us, batch.topic.name

    def let_go(self, low, high):
        if low >= high:
            return
        insort(self.free, Stretch(low, high))
        joined = []
        for one in self.free:
            if joined and (one.low <= joined[-1].high or len(self.free) > MOST_STRETCHES):
                joined[-1].high = max(joined[-1].high, one.high)
                joined[-1].oldest_us = 0
            else:
                joined.append(one)
        self.free = joined


def count_out(removals):
    """Count *removals* out of what is held."""
    for one in removals:
        if one.topic.limits is not None:
            one.topic.limits.gone(one.first, one.count, one.size)


def joined(removals):
    """Return removals as ``[topic, first, count]``, neighbours of one topic as one."""
    ranges = []
    for one in removals:
        if ranges and ranges[-1][0] is one.topic and sum(ranges[-1][1:]) == one.first:
            ranges[-1][2] += one.count
        else:
            ranges.append([one.topic, one.first, one.count])
    return ranges


def by_topic(removals):
    """Return the removals sorted by topic: dict of topic -> its batches, oldest first."""
    sorted_out = {}
    for batch in removals:
        sorted_out.setdefault(batch.topic, []).append(batch)
    return sorted_out


def gap_of(removed, cursor, wanted):
    """Return the Gap that trims have torn for a reader at *cursor*, or None.

    *removed* yields ``(topic name, first, count)`` of every batch that went since the reader looked last.
    """
    lost, next = 0, cursor
    for name, first, count in removed:
        if first + count > cursor and name in wanted:
            lost += min(count, first + count - cursor)
            next = max(next, first + count)
    return Gap(cursor, next, lost, "retention") if lost else None


def vague_gap_of(topics, trims, cursor):
    """Return the Gap where the single removals are forgotten: its place is known, its count is not."""
    nexts = [topic.trimmed_next for topic in topics if topic.mark > trims and topic.trimmed_next > cursor]
    return Gap(cursor, max(nexts), None, "retention") if nexts else None
