"""Group: the appends of one commit, decided before anything is written.

Who may go in, at which offsets, with what told to whom. Nothing here changes the
state of the store until :meth:`Group.apply`, so a commit that failed leaves no trace.
"""

import time

from ..errors import BatchTooLarge, DeadlineExceeded, LimitExceeded, RequestError
from . import producers as dedup
from .state import Topic

MAX_BYTES = 32 << 20
MAX_MESSAGES = 1 << 18
MAX_BATCHES = 1024      # the fan-out of one commit must not hold the hub for long
# After a power cut a relaxed store skips 2**20 offsets: more than any one commit may have used.
MAX_APPEND_MESSAGES = 1 << 19


class Group:
    """What one transaction appends.

    ``placed`` are ``(topic, batch)`` in offset order, ``new_topics`` those not seen before by name,
    ``sequences`` are ``(producer, entry)`` to remember and ``touched`` all that is then remembered of those
    producers; ``changes``, ``records`` and ``journal_from`` are those of all appends together.
    ``appends`` is everybody who must be told, in order.
    """

    def __init__(self, appends, state, producers, settings):
        self.appends = appends
        self.placed = []
        self.new_topics = {}
        self.sequences = []
        self.touched = {}
        self.changes = []
        self.records = {}
        self.journal_from = 0
        self.end = state.end
        self.time_us = state.clock_us()
        self._state = state
        self._producers = producers
        self._max_topics = settings.max_topics
        now = time.monotonic()
        for append in appends:
            try:
                self._admit(append, now)
            except RequestError as error:
                append.error = error

    @property
    def messages(self):
        return self.end - self._state.end

    @property
    def empty(self):
        """Tell whether there is nothing to write."""
        return not (self.placed or self.changes or self.records or self.journal_from or self.touched)

    def _admit(self, append, now):
        if append.deadline is not None and now > append.deadline:
            raise DeadlineExceeded("The publish reached the store after its caller's deadline; it was not run.",
                                   deadline=append.deadline)
        sequences = None
        if append.producer is not None:
            sequences = self._sequences(append.producer)
            firsts = dedup.known(sequences, append.sequence, append.producer)
            if firsts is not None:
                append.firsts, append.duplicate = firsts, True
                return
        self._check(append)
        append.firsts = self._place(append.batches)
        if sequences is not None:
            entry = dedup.remember(sequences, append.sequence, append.firsts)
            self.touched[append.producer] = sequences
            self.sequences.append((append.producer, entry))
        self._note(append)

    def _note(self, append):
        if append.changes:
            self.changes += append.changes
        if append.records:
            self.records.update(append.records)
        if append.journal_from:
            self.journal_from = max(self.journal_from, append.journal_from)
        append.journal_next = self._state.journal_next + len(self.changes)

    def _sequences(self, producer):
        touched = self.touched.get(producer)
        return self._producers.sequences(producer) if touched is None else touched

    def _check(self, append):
        if len(append.batches) > 1 and sum(batch.count for batch in append.batches) > MAX_APPEND_MESSAGES:
            raise BatchTooLarge(f"One append has at most {MAX_APPEND_MESSAGES} messages; publish them in parts.",
                                limit=MAX_APPEND_MESSAGES)
        by_name, staged = self._state.topics.by_name, self.new_topics
        unknown = {batch.topic for batch in append.batches if batch.topic not in by_name} - staged.keys()
        if not unknown:
            return
        total = len(self._state.topics) + len(staged)
        if total + len(unknown) > self._max_topics:
            raise LimitExceeded(f"The log has {total} topics and max_topics is {self._max_topics}. "
                                "Use fewer topics, or raise max_topics.", limit=self._max_topics)
        for id, name in enumerate(sorted(unknown), total + 1):
            staged[name] = Topic(id, name)

    def _place(self, batches):
        by_name, first, firsts = self._state.topics.by_name, self.end, []
        for batch in batches:
            topic = by_name.get(batch.topic) or self.new_topics[batch.topic]
            batch.seal(first, self.time_us)
            self.placed.append((topic, batch))
            firsts.append(first)
            first += batch.count
        self.end = first
        return firsts

    def apply(self):
        """The commit is through: count everything."""
        state, topics = self._state, self._state.topics
        for topic in self.new_topics.values():
            topics.add(topic)
        for topic, batch in self.placed:
            topic.add(batch.first, batch.count, len(batch.packed))
        if self.touched:
            self._producers.keep(self.touched, self.time_us)
        state.journal_next += len(self.changes)
        state.time_us = self.time_us
        state.end = self.end        # last, see state.py

    def fail(self, error):
        """The commit failed: everybody of the group is told, each with an exception of its own."""
        for append in self.appends:
            # A duplicate whose original was committed earlier keeps its answer.
            if append.error is None and not (append.duplicate and not self._needs_room(append)):
                refuse(append, error)

    def fail_placed(self, error):
        """There was no room: tell everybody who has messages in it; returns the others, who may try again."""
        others = []
        for append in self.appends:
            if append.error is None:
                if self._needs_room(append):
                    refuse(append, error)
                elif not append.duplicate:
                    others.append(append)
        return others

    def _needs_room(self, append):
        return any(first >= self._state.end for first in append.firsts)


def refuse(append, error):
    """Tell *append* an exception of its own, like *error*."""
    append.firsts, append.journal_next, append.duplicate = None, None, False
    append.error = type(error)(str(error), **error.facts)
