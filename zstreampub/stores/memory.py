"""MemoryStore: a log that ends with the process; for tests and for those who need no disk.

Keeps the laws of :mod:`zstreampub.store`, except that nothing survives. Everything
happens on the hub: appends are committed in a callback of the loop, all that are pending
at once, as LmdbStore does it with its transactions.
"""

import secrets
from bisect import bisect_left
from collections import deque

import gevent

from ..errors import StoreClosed, StoreCorrupt, StoreFull
from ..message import Batch
from ..store import Measure, Store
from .chunk import LOOK_BATCHES, ChunkBuilder
from .group import Group
from .keys import key_digest, newest_of_keys
from .producers import Producers
from .retention import HISTORY_STEPS, Below, Excess, Kept, by_topic, gap_of, vague_gap_of
from .state import LogState


class MemoryStore(Store):
    """A log in memory; at most ``settings.max_store_bytes`` of batches."""

    def __init__(self, settings):
        self._settings = settings
        self._state = LogState(settings)
        self._state.epoch = self.epoch = secrets.token_hex(16)
        self._producers = Producers(settings.max_producers)
        self._batches = {}      # first offset -> Batch
        self._firsts = []       # sorted
        self._by_topic = {}     # Topic -> deque of firsts
        self._keys = {}         # digest of topic and key -> offset of the newest
        self._removed = deque(maxlen=HISTORY_STEPS)     # (trim mark, [(topic name, first, count)])
        self._bytes = self._commits = self._appended = 0
        self._journal = deque()         # (number, change)
        self._records = {}
        self._guards = ()
        self._pending = []
        self._deliver = self._removed_told = None
        self._closed = False
        self._hub = gevent.get_hub()
        self._timer = None
        if settings.retention:
            self._timer = self._hub.loop.timer(settings.retention_interval_s, settings.retention_interval_s, ref=False)
            self._timer.start(self._retain)

    # --- writing -----------------------------------------------------------------

    def follow(self, deliver, died=None, removed=None):
        self._deliver, self._removed_told = deliver, removed

    def append(self, append):
        if self._closed:
            raise StoreClosed("The store is closed.")
        if not self._pending:
            self._hub.loop.run_callback(self._commit)
        self._pending.append(append)

    def _commit(self):
        appends, self._pending = self._pending, []
        if not appends:
            return      # close() was quicker
        group = Group(appends, self._state, self._producers, self._settings)
        size = sum(batch.size for _, batch in group.placed)
        if self._bytes + size > self._settings.max_store_bytes:
            others = group.fail_heavy(StoreFull(
                f"The log in memory has {self._bytes} bytes and max_store_bytes is {self._settings.max_store_bytes}. "
                "Trim it, set retention, or raise the limit."))
            group = Group(others, self._state, self._producers, self._settings)
        self._file(group)
        group.apply()
        self._note(group)
        if self._deliver is not None:
            self._deliver(appends)
        if any(limits.urgent() for limits in self._state.topics.limits):
            self._retain()

    def _file(self, group):
        self._commits += 1
        self._appended += group.messages
        for topic, batch in group.placed:
            self._batches[batch.first] = batch
            self._firsts.append(batch.first)
            self._by_topic.setdefault(topic, deque()).append(batch.first)
            self._bytes += batch.size
            self._keys.update(newest_of_keys(batch, topic.id))

    def _note(self, group):
        self._journal.extend(enumerate(group.changes, self._state.journal_next - len(group.changes)))
        for key, value in group.records.items():
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value
        while self._journal and self._journal[0][0] < group.journal_from:
            self._journal.popleft()

    # --- trimming ------------------------------------------------------------------

    def trim(self, wanted, next):
        self._check_open()
        return self._remove(self._choose(Below(wanted, next)))

    def _retain(self):
        now_us = self._state.clock_us()
        for limits in self._state.topics.limits:
            if limits.due(now_us):
                self._remove(self._choose(Excess(limits, now_us)))

    def _choose(self, chooser):
        removals = []
        for first in self._firsts:
            batch = self._batches[first]
            topic = self._state.topics.by_name[batch.topic]
            if first >= chooser.stop:
                break
            if chooser.concerns(topic):
                kept = Kept(topic, first, batch.count, batch.size, batch.time_us)
                goes = chooser.goes(kept)
                if goes is None:
                    break
                if goes:
                    removals.append(kept)
        return removals

    def _remove(self, removals):
        if not removals:
            return 0
        state = self._state
        state.mark += 1
        for topic, ones in by_topic(removals).items():
            for removal in ones:
                self._forget(topic, removal)
            topic.become(topic.without(ones, state.mark))
        self._firsts = [first for first in self._firsts if first in self._batches]
        state.first = self._firsts[0] if self._firsts else state.end
        self._removed.append((state.mark, [(one.topic.name, one.first, one.count) for one in removals]))
        if self._removed_told is not None:
            self._removed_told([(one.topic.name, one.first, one.next) for one in removals])
        return sum(removal.count for removal in removals)

    def _forget(self, topic, removal):
        batch = self._batches.pop(removal.first)
        self._by_topic[topic].popleft()
        self._bytes -= batch.size
        for digest in newest_of_keys(batch, topic.id):
            if batch.first <= self._keys[digest] < batch.next:
                del self._keys[digest]

    # --- reading -------------------------------------------------------------------

    def bounds(self):
        return self._state.first, self._state.end

    def trim_mark(self):
        return self._state.mark

    def read(self, cursor, wanted, next, max_messages, max_bytes, trims):
        self._check_open()
        state = self._state
        builder = ChunkBuilder(cursor, min(next, state.end), max_messages, max_bytes)
        at = self._at(cursor)
        for first in self._firsts[at:at + LOOK_BATCHES + 1]:
            if first >= min(next, state.end):
                builder.finish()
                break
            batch = self._batches[first]
            if not builder.look(first):
                break
            if batch.topic in wanted:
                if not builder.has_room(batch.size) or not builder.take(batch):
                    break
            else:
                builder.next = max(cursor, batch.next)
        else:
            builder.finish()
        return builder.chunk(self._gap(cursor, wanted, trims), state.mark)

    def _gap(self, cursor, wanted, trims):
        if trims < self._state.mark - len(self._removed):
            return vague_gap_of(self._state.topics.select(wanted).topics, trims, cursor)
        return gap_of((one for mark, removed in self._removed if mark > trims for one in removed), cursor, wanted)

    def _at(self, offset):
        """Return where in the list of firsts the batch of *offset* is, or the next one after it."""
        at = bisect_left(self._firsts, offset)
        if at and self._batches[self._firsts[at - 1]].next > offset:
            at -= 1
        return at

    def get(self, offset):
        self._check_open()
        at = self._at(offset)
        if at == len(self._firsts) or self._firsts[at] > offset:
            return None
        batch = self._batches[self._firsts[at]]
        return batch.slice(offset - batch.first, offset - batch.first + 1)

    def last(self, topic, key=None):
        self._check_open()
        found = self._state.topics.by_name.get(topic)
        if found is None or not found.messages:
            return None
        offset = found.next - 1 if key is None else self._keys.get(key_digest(found.id, key))
        return None if offset is None else self.get(offset)

    def newest(self, wanted, next):
        self._check_open()
        found = []
        for topic in self._state.topics.select(wanted).topics:
            firsts = self._by_topic[topic]
            at = bisect_left(firsts, next)
            if at:
                found.append(self.get(min(self._batches[firsts[at - 1]].next, next) - 1))
        return sorted(found, key=lambda batch: batch.first)

    def offset_at(self, time_us):
        self._check_open()
        return next((first for first in self._firsts if self._batches[first].time_us >= time_us), self._state.end)

    def offset_of_last(self, wanted, count):
        self._check_open()
        offset = self._state.end
        for first in reversed(self._firsts):
            batch = self._batches[first]
            if count <= 0:
                break
            if batch.topic in wanted:
                offset = batch.next - min(count, batch.count)
                count -= batch.count
        return offset

    def guard(self, guards):
        self._guards = tuple(guards)

    def measure(self, wanted, first, next):
        self._check_open()
        messages = size = 0
        oldest_us = None
        for at in self._firsts[self._at(first):]:
            batch = self._batches[at]
            if at >= next:
                break
            if batch.topic in wanted:
                batch = batch.slice(max(first - at, 0), min(next - at, batch.count))
                messages += batch.count
                size += batch.size
                oldest_us = batch.time_us if oldest_us is None else oldest_us
        return Measure(messages, size, oldest_us)

    def journal(self):
        self._check_open()
        return list(self._journal)

    def records(self, prefix, after=None, most=1000):
        self._check_open()
        keys = sorted(key for key in self._records if key.startswith(prefix) and (after is None or key > after))
        return [(key, self._records[key]) for key in keys[:most]]

    def topics(self, wanted):
        self._check_open()
        return self._state.topics.maps(wanted)

    # --- care ----------------------------------------------------------------------

    def stats(self):
        return {"kind": "memory", "epoch": self.epoch, "first": self._state.first, "next": self._state.end,
                "topics": len(self._state.topics), "bytes": self._bytes, "commits": self._commits,
                "appended_messages": self._appended, "producers": len(self._producers),
                "trimmed_messages": sum(topic.trimmed_messages for topic in self._state.topics.all)}

    def check(self):
        end = 0
        for first in self._firsts:
            batch = Batch.parse(self._batches[first].packed)
            batch.verify()
            if batch.first != first or first < end:
                raise StoreCorrupt(f"The batch at offset {first} says that it is at {batch.first}.", offset=first)
            end = batch.next
        for topic, firsts in self._by_topic.items():
            batches = [self._batches[first] for first in firsts]
            kept = (sum(batch.count for batch in batches), sum(batch.size for batch in batches))
            if kept != (topic.messages, topic.bytes) or (batches and topic.first > firsts[0]):
                raise StoreCorrupt(f"The counters of {topic.name} do not fit its batches.", topic=topic.name)

    def close(self):
        if self._closed:
            return
        self._closed = True
        self._commit()
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()

    def _check_open(self):
        if self._closed:
            raise StoreClosed("The store is closed.")
