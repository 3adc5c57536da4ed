"""MemoryStore: a log that ends with the process; for tests and for those who need no disk.

Keeps the laws of :mod:`zstreampub.store`, except that nothing survives. Everything
happens on the hub: appends are committed in a callback of the loop, all that are pending
at once, as LmdbStore does it with its transactions.
"""

import secrets
from collections import deque

import gevent

from ..errors import StoreClosed, StoreCorrupt, StoreFull
from ..message import Batch
from ..store import Measure, Store
from .choosers import Below, Kept
from .chunk import LOOK_BATCHES, ChunkBuilder
from .group import Group
from .heap import Heap
from .heap_sweep import HeapSweep
from .keys import key_digest
from .producers import Producers
from .retention import HISTORY_STEPS, by_topic, count_out, gap_of, joined, vague_gap_of
from .state import LogState

COMPACT_REST_S = 0.005


class MemoryStore(Store):
    """A log in memory; at most ``settings.max_store_bytes`` of batches."""

    def __init__(self, settings):
        self._settings = settings
        self._state = LogState(settings)
        self._state.epoch = self.epoch = secrets.token_hex(16)
        self._producers = Producers(settings.max_producers)
        self._heap = Heap()
        self._removed = deque(maxlen=HISTORY_STEPS)     # (trim mark, [(topic name, first, count)])
        self._commits = self._appended = 0
        self._journal = deque()         # (number, change)
        self._records = {}
        self._guards_next = None
        self._pending = []
        self._deliver = self._removed_told = None
        self._closed = False
        self._hub = gevent.get_hub()
        self._timer = None
        if settings.retention:
            self._timer = self._hub.loop.timer(settings.retention_interval_s, settings.retention_interval_s, ref=False)
            self._timer.start(self._look)
        self._sweep = HeapSweep(self._heap, self._state, settings, self._remove)
        self._next_step = None

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
        if self._heap.bytes + size > self._settings.max_store_bytes:
            others = group.fail_heavy(StoreFull(
                f"The log in memory has {self._heap.bytes} bytes and max_store_bytes is "
                f"{self._settings.max_store_bytes}. Trim it, set retention, or raise the limit."))
            group = Group(others, self._state, self._producers, self._settings)
        self._file(group)
        group.apply()
        self._note(group)
        if self._deliver is not None:
            self._deliver(appends)
        if self._guards_next is not None:
            self._guard()
        if any(limits.urgent() for limits in self._state.topics.limits):
            self._retain()
        else:
            self._state.judge()

    def _file(self, group):
        self._commits += 1
        self._appended += group.messages
        for topic, batch in group.placed:
            self._heap.add(topic, batch)

    def _note(self, group):
        self._journal.extend(enumerate(group.changes, self._state.journal_next - len(group.changes)))
        for key, value in group.records.items():
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value
        while self._journal and self._journal[0][0] < group.journal_from:
            self._journal.popleft()

    # --- removing ------------------------------------------------------------------

    def trim(self, wanted, next):
        self._check_open()
        count = self._walk(Below(wanted, next))
        self._state.judge()
        return count

    def guard(self, guards):
        self._check_open()
        self._guards_next = tuple(guards)
        if not self._pending:
            self._guard()

    def _guard(self):
        guards, self._guards_next = self._guards_next, None
        self._state.guard(guards)
        if any(limits.urgent() for limits in self._state.topics.limits):
            self._retain()

    def _retain(self):
        topics, now_us = self._state.topics, self._state.clock_us()
        for limits in topics.limits:
            while (walk := limits.walk(self._state.guards, now_us)) is not None:
                self._walk(walk())
        self._state.judge()

    def _look(self):
        self._retain()
        if self._next_step is None:
            self._compact()

    def _compact(self):
        """Take one step of a compaction; the next one when everybody has had a turn."""
        if self._next_step is not None:
            self._next_step.close()
            self._next_step = None
        if self._sweep.step():
            self._next_step = self._hub.loop.timer(COMPACT_REST_S, ref=False)
            self._next_step.start(self._compact)
        self._state.judge()

    def _walk(self, chooser):
        """Remove what *chooser* wants gone; return how many messages that were."""
        removals, cursor = [], self._state.end
        for at in range(self._heap.at(chooser.start), len(self._heap.firsts)):
            batch = self._heap[self._heap.firsts[at]]
            topic = self._state.topics.by_name[batch.topic]
            if batch.first >= chooser.stop:
                break
            if chooser.concerns(topic):
                kept = Kept(topic, batch.first, batch.count, batch.size, batch.time_us)
                goes = chooser.goes(kept)
                if goes is None:
                    cursor = batch.first
                    break
                if goes:
                    removals.append(kept)
        if removals:
            self._remove(removals, {topic: {one.first: [] for one in ones}
                                    for topic, ones in by_topic(removals).items()})
        chooser.walked(cursor, True)
        return sum(removal.count for removal in removals)

    def _remove(self, removals, changes, scattered=False):
        """Remove *removals* by *changes*, as the heap takes them."""
        state = self._state
        state.mark += 1
        self._heap.replace(changes)
        for topic, ones in by_topic(removals).items():
            topic.become(topic.without(ones, state.mark, scattered))
        count_out(removals)
        state.first = self._heap.firsts[0] if self._heap.firsts else state.end
        ranges = joined(removals)
        self._removed.append((state.mark, [(topic.name, first, count) for topic, first, count in ranges]))
        if self._removed_told is not None:
            self._removed_told([(topic.name, first, first + count) for topic, first, count in ranges])

    # --- reading -------------------------------------------------------------------

    def bounds(self):
        return self._state.first, self._state.end

    def trim_mark(self):
        return self._state.mark

    def read(self, cursor, wanted, next, max_messages, max_bytes, trims):
        self._check_open()
        state = self._state
        builder = ChunkBuilder(cursor, min(next, state.end), max_messages, max_bytes)
        at = self._heap.at(cursor)
        for first in self._heap.firsts[at:at + LOOK_BATCHES + 1]:
            if first >= min(next, state.end):
                builder.finish()
                break
            batch = self._heap[first]
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

    def get(self, offset):
        self._check_open()
        return self._heap.get(offset)

    def last(self, topic, key=None):
        self._check_open()
        found = self._state.topics.by_name.get(topic)
        if found is None or not found.messages:
            return None
        offset = (self._heap.newest_below(found, self._state.end) if key is None
                  else self._heap.offset_of_key(key_digest(found.id, key)))
        return None if offset is None else self.get(offset)

    def newest(self, wanted, next):
        self._check_open()
        found = []
        for topic in self._state.topics.select(wanted).topics:
            offset = self._heap.newest_below(topic, next)
            if offset is not None:
                found.append(self._heap.get(offset))
        return sorted(found, key=lambda batch: batch.first)

    def offset_at(self, time_us):
        self._check_open()
        return next((first for first in self._heap.firsts if self._heap[first].time_us >= time_us), self._state.end)

    def offset_of_last(self, wanted, count):
        self._check_open()
        offset = self._state.end
        for first in reversed(self._heap.firsts):
            batch = self._heap[first]
            if count <= 0:
                break
            if batch.topic in wanted:
                offset = batch.next - min(count, batch.count)
                count -= batch.count
        return offset

    def measure(self, wanted, first, next):
        self._check_open()
        messages = size = 0
        oldest_us = None
        for at in self._heap.firsts[self._heap.at(first):] if first < next else ():
            batch = self._heap[at]
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
                "topics": len(self._state.topics), "bytes": self._heap.bytes, "commits": self._commits,
                "appended_messages": self._appended, "producers": len(self._producers),
                "ids": len(self._state.ids), "journal": len(self._journal),
                "trimmed_messages": sum(topic.trimmed_messages for topic in self._state.topics.all)}

    def check(self):
        end = 0
        for first in self._heap.firsts:
            batch = Batch.parse(self._heap[first].packed)
            batch.verify()
            if batch.first != first or first < end:
                raise StoreCorrupt(f"The batch at offset {first} says that it is at {batch.first}.", offset=first)
            end = batch.next
        for topic in self._state.topics.all:
            batches = self._heap.batches_of(topic)
            kept = (sum(batch.count for batch in batches), sum(batch.size for batch in batches))
            if kept != (topic.messages, topic.bytes) or (batches and topic.first > batches[0].first):
                raise StoreCorrupt(f"The counters of {topic.name} do not fit its batches.", topic=topic.name)

    def close(self):
        if self._closed:
            return
        self._closed = True
        self._commit()
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        if self._next_step is not None:
            self._next_step.close()

    def _check_open(self):
        if self._closed:
            raise StoreClosed("The store is closed.")
