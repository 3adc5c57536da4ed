"""HeapSweep: the steps of a compaction (compaction.py) over the log in memory; on the hub."""

import time

from .compaction import Compaction, parts, removed

STEP_S = 0.005      # of one step; the hub waits for it


class HeapSweep:
    """The compactions of a MemoryStore; ``remove(removals, changes)`` is how it removes."""

    def __init__(self, heap, state, settings, remove):
        self._heap = heap
        self._state = state
        self._remove = remove
        self._compactions = [Compaction(limits, settings) for limits in state.topics.limits
                             if limits.rule.newest_per_key]

    def step(self):
        """Take one step of a pass, if one is going on or due; tell whether there are more."""
        state, now_us = self._state, self._state.clock_us()
        one = (next((one for one in self._compactions if one.current is not None), None)
               or next((one for one in self._compactions if one.due(now_us, state.guards)), None))
        if one is None:
            return False
        began = time.monotonic()
        if one.current is None:
            one.begin(state.topics.all, state.end, now_us)
        if one.current.gathering:
            self._gather(one.current)
        elif self._sweep(one.current):
            one.swept()
        one.worked(time.monotonic() - began)
        return one.current is not None

    def _gather(self, current):
        for topic, batch in self._batches(current):
            current.gather(topic, batch)
            if current.is_full:
                break
        if current.is_full or current.cursor >= current.end:
            current.sweep()

    def _sweep(self, current):
        removals, changes = [], {}
        for topic, batch in self._batches(current):
            ranges = current.stays(topic, batch, self._state.guards)
            if ranges is not None:
                kept = parts(batch, ranges)
                removals += removed(topic, batch, ranges, kept)
                changes.setdefault(topic, {})[batch.first] = kept
        if removals:
            self._remove(removals, changes, scattered=True)
        return current.cursor >= current.stop

    def _batches(self, current):
        """Yield the batches of the pass, and move its cursor past them, until the time is over or it is at its stop."""
        heap, until = self._heap, time.perf_counter() + STEP_S
        for at in range(heap.at(current.cursor), len(heap.firsts)):
            batch = heap[heap.firsts[at]]
            if batch.first >= current.stop:
                break
            topic = self._state.topics.by_name[batch.topic]
            current.cursor = batch.next
            if topic.id in current.ids:
                yield topic, batch
            if time.perf_counter() > until:
                return
        current.cursor = current.stop
