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
        return self._over(self.messages, self.bytes, 1 + 1 / _SLACK)

    def due(self, now_us):
        """Tell whether there may be something to remove."""
        return self.messages > 0 and (self._over(self.messages, self.bytes) or self._expired(self.oldest_us, now_us))

    def chooser(self, now_us):
        """Return ``goes(batch)`` for one walk from ``cursor`` on: True, False, or None where the walk may end."""
        messages, size = self.messages, self.bytes

        def goes(batch):
            nonlocal messages, size
            if batch.topic.limits is not self:
                return False
            if not (self._over(messages, size) or self._expired(batch.time_us, now_us)):
                self.oldest_us = batch.time_us
                return None
            messages -= batch.count
            size -= batch.size
            return True
        return goes

    def _over(self, messages, size, factor=1):
        rule = self.rule
        return ((rule.max_messages is not None and messages > rule.max_messages * factor)
                or (rule.max_bytes is not None and size > rule.max_bytes * factor))

    def _expired(self, time_us, now_us):
        return self.rule.max_age_s is not None and time_us < now_us - self.rule.max_age_s * 1e6


def chooser_below(wanted, next):
    """Return ``goes(batch)`` that removes what :meth:`Store.trim` promises."""
    def goes(batch):
        if batch.first >= next:
            return None
        return batch.next <= next and batch.topic.name in wanted
    return goes


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
