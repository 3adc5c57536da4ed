"""What a store knows of its log without reading it: the topics and their counters, the ends, the clock.

Changed by the one that commits (LmdbStore: its writer thread) and only after a
commit; read by anybody. ``end`` is set last, so whoever reads ``end`` first finds
everything below it already counted.
"""

import time
from weakref import WeakKeyDictionary

from .retention import Limits


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

    def without(self, removals, mark):
        """Return what this topic is after *removals* (its own, oldest first); change nothing."""
        count = sum(batch.count for batch in removals)
        size = sum(batch.size for batch in removals)
        trimmed_next = removals[-1].next
        return Topic(self.id, self.name, self.messages - count, self.bytes - size,
                     trimmed_next if count < self.messages else self.next, self.next,
                     trimmed_next, self.trimmed_messages + count, mark, self.limits)

    def become(self, other):
        """Take over the counters of *other*, which :meth:`without` made of this topic."""
        if self.limits is not None:
            self.limits.messages += other.messages - self.messages
            self.limits.bytes += other.bytes - self.bytes
        for name in ("messages", "bytes", "first", "trimmed_next", "trimmed_messages", "mark"):
            setattr(self, name, getattr(other, name))

    def as_map(self):
        return {"topic": self.name, "messages": self.messages, "bytes": self.bytes, "next": self.next}


class Topics:
    """All topics of a log; they are never removed, so an id once given stays."""

    def __init__(self, retention):
        self.by_name = {}
        self.all = []       # the topic with id n is all[n - 1]
        self.limits = [Limits(rule) for rule in retention]
        self._selections = WeakKeyDictionary()

    def __len__(self):
        return len(self.all)

    def add(self, topic):
        """File a topic whose id is the next one, under the first rule that governs it."""
        topic.limits = next((limits for limits in self.limits if limits.governs(topic.name)), None)
        if topic.limits is not None:
            topic.limits.messages += topic.messages
            topic.limits.bytes += topic.bytes
        self.all.append(topic)
        self.by_name[topic.name] = topic

    def select(self, wanted):
        """Return the topics that *wanted* names, in the order in which they came up.

        Asked with each read, so the answer is kept and only new topics are looked at.
        """
        if wanted.topics is not None:
            names = dict.fromkeys(wanted.topics)
            return [topic for topic in map(self.by_name.get, names) if topic is not None]
        known, found = self._selections.get(wanted, (0, []))
        total = len(self.all)
        if known < total:
            # A new list each time: another thread may still be walking the old one.
            found = found + [topic for topic in self.all[known:total] if topic.name in wanted]
            self._selections[wanted] = (total, found)
        return found

    def maps(self, wanted):
        """Return what :meth:`Store.topics` promises."""
        return [topic.as_map() for topic in sorted(self.select(wanted), key=lambda topic: topic.name)]


class LogState:
    """The ends of the log, its clock and its topics.

    ``first`` and ``end`` are the bounds, ``mark`` is the trim mark, ``time_us`` the newest
    batch's time, ``epoch`` the log's name.
    """

    def __init__(self, settings):
        self.topics = Topics(settings.retention)
        self.epoch = ""
        self.first = 0
        self.end = 0
        self.mark = 0
        self.time_us = 0

    def clock_us(self):
        """Return the time now, microseconds since the epoch; it never steps back behind the newest batch."""
        return max(time.time_ns() // 1000, self.time_us)
