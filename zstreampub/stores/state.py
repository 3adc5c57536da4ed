"""What a store knows of its log without reading it: the topics and their counters, the ends, the clock.

Changed by the one that commits (LmdbStore: its writer thread) and only after a
commit; read by anybody. ``end`` is set last, so whoever reads ``end`` first finds
everything below it already counted.
"""

import time
from contextlib import contextmanager
from typing import NamedTuple

from gevent.monkey import get_original

from .guards import Guards
from .ids import IdWindow
from .retention import Limits

_SELECTED = 1_000_000       # topics in all selections that are kept
_SELECTIONS = 1_000

_pause = get_original("time", "sleep")


class Topic:
    """One topic's counters: what is kept, and what trimming has taken.

    Nothing is kept below ``first``; ``next`` is the offset after its newest message;
    ``trimmed_next``, ``trimmed_messages`` and ``mark`` describe all trims up to the last one.
    ``limits`` is the retention rule that it obeys, or None.
    """

    __slots__ = ("id", "name", "messages", "bytes", "first", "next",
                 "trimmed_next", "trimmed_messages", "mark", "limits")

    def __init__(self, id, name, messages=0, bytes=0, first=0, next=0,
                 trimmed_next=0, trimmed_messages=0, mark=0, limits=None):
        self.id = id
        self.name = name
        self.messages = messages
        self.bytes = bytes
        self.first = first
        self.next = next
        self.trimmed_next = trimmed_next
        self.trimmed_messages = trimmed_messages
        self.mark = mark
        self.limits = limits

    def add(self, first, count, size):
        """Count a batch that was appended."""
        if not self.messages:
            self.first = first
        self.messages += count
        self.bytes += size
        self.next = first + count
        if self.limits is not None:
            self.limits.messages += count
            self.limits.bytes += size
            self.limits.added += count

    def without(self, removals, mark, scattered=False):
        """Return what this topic is after *removals* (its own, oldest first); change nothing.

        *scattered*: there may be others before and between them.
        """
        count = sum(batch.count for batch in removals)
        size = sum(batch.size for batch in removals)
        first = self.first if scattered else removals[-1].next
        return Topic(self.id, self.name, self.messages - count, self.bytes - size,
                     first if count < self.messages else self.next, self.next,
                     max(self.trimmed_next, removals[-1].next), self.trimmed_messages + count, mark, self.limits)

    def become(self, other):
        """Take over the counters of *other*, which :meth:`without` made of this topic."""
        if self.limits is not None:
            self.limits.messages += other.messages - self.messages
            self.limits.bytes += other.bytes - self.bytes
        for name in ("messages", "bytes", "first", "trimmed_next", "trimmed_messages", "mark"):
            setattr(self, name, getattr(other, name))

    def as_map(self):
        return {"topic": self.name, "messages": self.messages, "bytes": self.bytes, "next": self.next}


class Selection(NamedTuple):
    """The topics that some patterns select, and their ids; the first *known* of all topics were looked at."""

    topics: list
    ids: frozenset
    known: int


class Topics:
    """All topics of a log; they are never removed, so an id once given stays."""

    def __init__(self, retention, keep_factor=4.0, keep_over="gap"):
        self.by_name = {}
        self.all = []       # the topic with id n is all[n - 1]
        self.limits = [Limits(rule, keep_factor, keep_over) for rule in retention]
        self.refusing = False       # whether one of the limits is
        self._selections = {}       # patterns -> Selection: readers with the same patterns share one

    def __len__(self):
        return len(self.all)

    def add(self, topic):
        """File a topic whose id is the next one, under the first rule that governs it."""
        topic.limits = self.limits_of(topic.name)
        if topic.limits is not None:
            topic.limits.messages += topic.messages
            topic.limits.bytes += topic.bytes
        self.all.append(topic)
        self.by_name[topic.name] = topic

    def limits_of(self, name):
        """Return the first rule that governs the topic *name*, which need not be there yet, or None."""
        known = self.by_name.get(name)
        if known is not None:
            return known.limits
        return next((limits for limits in self.limits if limits.governs(name)), None)

    def select(self, wanted):
        """Return the :class:`Selection` of *wanted*, its topics in the order in which they came up.

        Asked with each read, so the answer is kept and only new topics are looked at. Any thread may ask.
        """
        if wanted.topics is not None:
            names = dict.fromkeys(wanted.topics)
            found = [topic for topic in map(self.by_name.get, names) if topic is not None]
            return Selection(found, frozenset(topic.id for topic in found), len(self.all))
        kept = self._selections.get(wanted.patterns) or Selection([], frozenset(), 0)
        total = len(self.all)
        if kept.known < total:
            found = [topic for topic in self.all[kept.known:total] if wanted.matches(topic.name)]
            if found:       # new ones each time: another thread may still be walking the old ones
                kept = Selection(kept.topics + found, kept.ids.union(topic.id for topic in found), total)
            else:
                kept = kept._replace(known=total)
            self._keep(wanted.patterns, kept)
        return kept

    def _keep(self, patterns, selection):
        others = list(self._selections.values())
        if len(others) >= _SELECTIONS or sum(len(one.topics) for one in others) > _SELECTED:
            self._selections = {}
        self._selections[patterns] = selection

    def maps(self, wanted):
        """Return what :meth:`Store.topics` promises."""
        return [topic.as_map() for topic in sorted(self.select(wanted).topics, key=lambda topic: topic.name)]


class LogState:
    """The ends of the log, its clock and its topics.

    ``first`` and ``end`` are the bounds, ``mark`` is the trim mark, ``time_us`` the newest
    batch's time, ``epoch`` the log's name, ``journal_next`` the number of the next change, ``ids`` the
    window of ids.
    """

    def __init__(self, settings):
        self.topics = Topics(settings.retention, settings.keep_factor, settings.keep_over)
        self.guards = Guards()
        self.epoch = ""
        self.first = 0
        self.end = 0
        self.mark = 0
        self.time_us = 0
        self.journal_next = 0
        self.ids = IdWindow(settings)
        self.changes = 0        # of the topics' counters; odd while there is one

    @contextmanager
    def changing(self):
        """While the topics' counters are changed; see :meth:`steady`."""
        self.changes += 1
        try:
            yield
        finally:
            self.changes += 1

    def steady(self, look):
        """Return what ``look()`` returns at a moment at which the counters fit each other. For other threads."""
        while True:
            changes = self.changes
            if not changes & 1:
                found = look()
                if changes == self.changes:
                    return found
            _pause(0)

    def guard(self, guards):
        """Take *guards* in the place of all earlier ones."""
        for low, high in self.guards.replace(guards):
            for limits in self.topics.limits:
                limits.freed(low, high)

    def judge(self):
        """Decide to which rules' topics appends are refused."""
        topics, now_us = self.topics, self.clock_us()
        for limits in topics.limits:
            limits.judge(now_us)
        topics.refusing = any(limits.refusing for limits in topics.limits)

    def clock_us(self):
        """Return the time now, microseconds since the epoch; it never steps back behind the newest batch."""
        return max(time.time_ns() // 1000, self.time_us)
