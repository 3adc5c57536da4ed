"""Retention: which topics a rule governs, which batches go next, and what a reader lost by it.

Decides only; the stores remove. Whole batches go, the oldest of all topics of
a rule first. Nothing here reads a store: it is shown batches in the order of the log.
"""

from typing import NamedTuple

from ..store import Gap
from ..topics import check_pattern, matches

HISTORY_STEPS = 1024    # trims whose removals are remembered batch by batch, so that a gap can be counted
_SLACK = 16             # removing starts at once when a limit is passed by more than 1/16 of it


class Kept(NamedTuple):
    """A batch that is in the log, as a chooser sees it."""

    topic: object       # state.Topic
    first: int
    count: int      # type: ignore[assignment]  # named like a batch's
    size: int
    time_us: int

    @property
    def next(self):
        return self.first + self.count


class Limits:
    """One retention rule, with what is kept of all its topics together.

    ``cursor``: no batch that this rule governs is kept below it. A rule walks the log
    only once that way, however many other topics lie in between.
    """

    def __init__(self, rule):
        check_pattern(rule.pattern)
        self.rule = rule
        self.messages = 0
        self.bytes = 0
        self.cursor = 0
        self.oldest_us = 0      # no governed batch that is kept is older

    def governs(self, name):
        return matches(self.rule.pattern, name)

    def urgent(self):
        """Tell whether so much is over a limit that it should not wait for the next look.

        A little is let be: each removal costs an fsync, and one after every append
        would halve the rate of publishing.
        """
        return self.over(self.messages, self.bytes, 1 + 1 / _SLACK)

    def due(self, now_us):
        """Tell whether there may be something to remove."""
        return self.messages > 0 and (self.over(self.messages, self.bytes) or self.expired(self.oldest_us, now_us))

    def over(self, messages, size, factor=1.0):
        """Tell whether so much is over a limit."""
        rule = self.rule
        return ((rule.max_messages is not None and messages > rule.max_messages * factor)
                or (rule.max_bytes is not None and size > rule.max_bytes * factor))

    def expired(self, time_us, now_us):
        return self.rule.max_age_s is not None and time_us < now_us - self.rule.max_age_s * 1e6


class Excess:
    """Chooses what one rule wants gone, on one walk over the log from ``limits.cursor`` on.

    A chooser is asked about the batches below ``stop`` whose topics it ``concerns``, in order.
    """

    stop = 1 << 64

    def __init__(self, limits, now_us):
        self._limits = limits
        self._now_us = now_us
        self._messages = limits.messages
        self._bytes = limits.bytes

    def concerns(self, topic):
        return topic.limits is self._limits

    def goes(self, batch):
        """Tell whether *batch* goes; None where the walk may end."""
        limits = self._limits
        if not (limits.over(self._messages, self._bytes) or limits.expired(batch.time_us, self._now_us)):
            limits.oldest_us = batch.time_us
            return None
        self._messages -= batch.count
        self._bytes -= batch.size
        return True


class Below:
    """Chooses what :meth:`Store.trim` promises to remove."""

    def __init__(self, wanted, next):
        self.stop = next
        self._wanted = wanted

    def concerns(self, topic):
        return topic.name in self._wanted

    def goes(self, batch):
        return batch.next <= self.stop


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
