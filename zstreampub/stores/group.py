"""Group: the appends of one commit, decided before anything is written.

Who may go in, at which offsets, with what told to whom. Nothing here changes the
state of the store until :meth:`Group.apply`, so a commit that failed leaves no trace.
"""

import time

from ..errors import (
    BatchTooLarge,
    DeadlineExceeded,
    DuplicateId,
    HeldByConsumer,
    LimitExceeded,
    NextMismatch,
    RequestError,
)
from ..message import HAS_IDS
from . import producers as dedup
from .ids import GroupIds
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
    producers; ``changes``, ``records`` and ``journal_from`` are those of all appends together,
    ``ids`` what they add to the window of ids. ``appends`` is everybody who must be told, in order.
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
        self.ids = GroupIds(state.ids, self.time_us)
        self._state = state
        self._refusing = state.topics.refusing
        self._by_name = state.topics.by_name
        self._producers = producers
        self._max_topics = settings.max_topics
        self._nexts = None          # topic -> offset after its newest message; made when somebody expects one
        self._doubtful = []         # refused because of what the group stores, if it does
        self._answered = set()      # repeat what was committed earlier: true whatever becomes of the group
        now = time.monotonic()
        for append in appends:
            try:
                self._admit(append, now)
            except (RequestError, HeldByConsumer) as error:
                append.error = error
                if self.placed and isinstance(error, (NextMismatch, DuplicateId, LimitExceeded)):
                    self._doubtful.append(append)

    @property
    def messages(self):
        return self.end - self._state.end

    @property
    def empty(self):
        """Tell whether there is nothing to write."""
        return not (self.placed or self.changes or self.records or self.journal_from or self.touched)

    @property
    def can_be_noted(self):
        """Tell whether it brings nothing but messages for known topics, and changes (see notes.py)."""
        return not (self.new_topics or self.records or self.journal_from or (self.touched and not self.placed))

    # --- who may go in -------------------------------------------------------------

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
                if append.sequence in self._producers.sequences(append.producer):
                    self._answered.add(append)
                return
        originals = self._check(append)
        append.firsts = self._place(append.batches, originals)
        if originals is not None:
            append.repeats = frozenset(at for at, original in enumerate(originals) if original is not None)
            if len(append.repeats) == len(originals) and not _notes(append):
                append.duplicate = True
                if max(append.firsts) < self._state.end:
                    self._answered.add(append)
        if sequences is not None:
            entry = dedup.remember(sequences, append.sequence, append.firsts)
            self.touched[append.producer] = sequences
            self.sequences.append((append.producer, entry))
        if append.changes or append.records or append.journal_from:
            self._note(append)
        append.journal_next = self._state.journal_next + len(self.changes)

    def _sequences(self, producer):
        touched = self.touched.get(producer)
        return self._producers.sequences(producer) if touched is None else touched

    def _check(self, append):
        """Return the firsts of the originals of the batches that are repeats; raise why the append may not go in.

        None if none is a repeat; else a list with None for those that are none.
        """
        batches, by_name = append.batches, self._by_name
        if len(batches) > 1 and sum(batch.count for batch in batches) > MAX_APPEND_MESSAGES:
            raise BatchTooLarge(f"One append has at most {MAX_APPEND_MESSAGES} messages; publish them in parts.",
                                limit=MAX_APPEND_MESSAGES)
        new = ids = False
        for batch in batches:
            if batch.topic not in by_name:
                new = True
            if batch.packed[1] & HAS_IDS:
                ids = True
        if not (new or ids or append.expected_next or self._refusing):
            return None     # the usual case
        new_topics = self._new_topics(batches) if new else {}
        originals, added = self._originals(batches, new_topics) if ids else (None, {})
        if append.expected_next and (originals is None or None in originals):
            self._check_next(append.expected_next)
        if self._refusing:
            self._check_room(batch for at, batch in enumerate(batches) if originals is None or originals[at] is None)
        self.new_topics.update(new_topics)
        self.ids.keep(added)
        return originals

    def _originals(self, batches, new_topics):
        def id_of(topic):
            return (self._by_name.get(topic) or self.new_topics.get(topic) or new_topics[topic]).id
        originals, added = self.ids.originals(batches, id_of, self.end)
        return None if originals.count(None) == len(originals) else originals, added

    def _new_topics(self, batches):
        total = len(self._state.topics) + len(self.new_topics)
        names = sorted({batch.topic for batch in batches
                        if batch.topic not in self._by_name and batch.topic not in self.new_topics})
        if total + len(names) > self._max_topics:
            raise LimitExceeded(f"The log has {total} topics and max_topics is {self._max_topics}. "
                                "Use fewer topics, or raise max_topics.", limit=self._max_topics)
        return {name: Topic(id, name) for id, name in enumerate(names, total + 1)}

    def _check_room(self, batches):
        """Raise HeldByConsumer if one of *batches* may not be added until a consumer has acknowledged more."""
        for batch in batches:
            limits = self._state.topics.limits_of(batch.topic)
            if limits is not None and limits.refusing:
                raise limits.refusal(self._state.guards)

    def _check_next(self, expected):
        if self._nexts is None:
            self._nexts = {batch.topic: batch.next for _, batch in self.placed}
        for name, next in expected.items():
            known = self._by_name.get(name)
            there = self._nexts.get(name, known.next if known else 0)
            if there != next:
                raise NextMismatch(f"The next offset of {name} is {there}, not {next}; nothing was stored. Read what "
                                   "came in between, then publish with that.", topic=name, next=there)

    # --- what goes in --------------------------------------------------------------

    def _place(self, batches, originals):
        by_name, first, firsts = self._by_name, self.end, []
        for batch in batches:
            if originals is not None and originals[len(firsts)] is not None:
                firsts.append(originals[len(firsts)])
                continue
            topic = by_name.get(batch.topic) or self.new_topics[batch.topic]
            batch.seal(first, self.time_us)
            self.placed.append((topic, batch))
            firsts.append(first)
            first += batch.count
            if self._nexts is not None:
                self._nexts[batch.topic] = first
        self.end = first
        return firsts

    def _note(self, append):
        self.changes += append.changes
        if append.records:
            self.records.update(append.records)
        if append.journal_from:
            self.journal_from = max(self.journal_from, append.journal_from)

    # --- what becomes of it --------------------------------------------------------

    def apply(self):
        """The commit is through: count everything."""
        state, topics = self._state, self._state.topics
        for topic in self.new_topics.values():
            topics.add(topic)
        for topic, batch in self.placed:
            topic.add(batch.first, batch.count, len(batch.packed))
        if self.touched:
            self._producers.keep(self.touched, self.time_us)
        digests = self.ids.digests
        if digests:
            state.ids.add(self.time_us, digests, self.ids.offsets)
        state.journal_next += len(self.changes)
        state.time_us = self.time_us
        state.end = self.end        # last, see state.py

    def fail(self, error):
        """The commit failed: everybody of the group is told, each with an exception of its own."""
        for append in self._undecided():
            refuse(append, error)
        self._refuse_doubtful(error)

    @property
    def light(self):
        """Tell whether nobody in it brings messages: then it may use what is reserved for such appends."""
        return not any(append.size for append in self._undecided())

    def fail_heavy(self, error):
        """There was no room: everybody who brings messages is told; returns the others, who may try again."""
        others = []
        for append in self._undecided():
            if append.size:
                refuse(append, error)
            else:
                others.append(append)
        self._refuse_doubtful(error)
        return others

    def _undecided(self):
        return [append for append in self.appends if append.error is None and append not in self._answered]

    def _refuse_doubtful(self, error):
        for append in self._doubtful:
            refuse(append, error)


def refuse(append, error):
    """Tell *append* an exception of its own, like *error*."""
    append.firsts, append.journal_next, append.duplicate, append.repeats = None, None, False, ()
    append.error = type(error)(str(error), **error.facts)


def _notes(append):
    return append.changes or append.records or append.journal_from
