"""Choosers: which batches go, on a walk over the log; the limits that they obey are in retention.py.

A chooser is asked about the batches in ``[start, stop)`` whose topics it ``concerns``, in the order of
the log, and told by ``walked`` when a step is through. Nothing here reads a store. A chooser
may be asked the same again, by another of its kind, if a step has to be repeated: only ``walked``
changes anything.
"""

from typing import NamedTuple


class Kept(NamedTuple):
    """A batch that is in the log, as a chooser sees it; or messages of one that are going."""

    topic: object       # state.Topic
    first: int
    count: int      # type: ignore[assignment]  # named like a batch's
    size: int
    time_us: int

    @property
    def next(self):
        return self.first + self.count


class Excess:
    """Chooses what one rule wants gone: the usual walk, from ``limits.cursor`` on."""

    stop = 1 << 64

    def __init__(self, limits, guards, now_us):
        self.start = limits.cursor
        self._limits = limits
        self._guards = guards
        self._now_us = now_us
        self._messages = limits.messages - limits.held.messages
        self._bytes = limits.bytes - limits.held.bytes
        self._held = []
        self._end = None

    def concerns(self, topic):
        return topic.limits is self._limits

    def goes(self, batch):
        """Tell whether *batch* goes; None where the walk may end."""
        limits = self._limits
        if not (limits.over(self._messages, self._bytes) or limits.expired(batch.time_us, self._now_us)):
            self._end = batch
            return None
        self._messages -= batch.count
        self._bytes -= batch.size
        if batch.next > self._guards.first(batch.topic.name):
            self._held.append(batch)
            return False
        return True

    def walked(self, cursor, ended):
        """Learn that the step is through; the next one begins at *cursor*, unless it *ended* the walk."""
        limits, held = self._limits, self._limits.held
        if self._held and not held.messages:
            held.begin(self._held[0])
        held.messages += sum(batch.count for batch in self._held)
        held.bytes += sum(batch.size for batch in self._held)
        limits.cursor = cursor
        if self._end is not None:
            limits.oldest_us = self._end.time_us
        elif ended:     # whatever there is is held
            held.messages, held.bytes = limits.messages, limits.bytes


class Freed:
    """Chooses among what was held and is held no more: what is still too much goes."""

    def __init__(self, limits, guards, now_us, stretch):
        self.start, self.stop = stretch.low, stretch.high
        self._limits = limits
        self._guards = guards
        self._now_us = now_us
        self._stretch = stretch
        self._messages = limits.messages
        self._bytes = limits.bytes
        self._end = None

    def concerns(self, topic):
        return topic.limits is self._limits

    def goes(self, batch):
        limits = self._limits
        if batch.next > self._guards.first(batch.topic.name):
            return False
        if not (limits.over(self._messages, self._bytes) or limits.expired(batch.time_us, self._now_us)):
            self._end = batch
            return None
        self._messages -= batch.count
        self._bytes -= batch.size
        return True

    def walked(self, cursor, ended):
        stretch, held = self._stretch, self._limits.held
        stretch.low = cursor
        if self._end is not None:
            stretch.oldest_us = self._end.time_us
        elif ended and stretch in held.free:
            held.free.remove(stretch)


class Surplus:
    """Chooses what goes although it is held, because ``keep_factor`` does not allow more; or only finds the oldest."""

    def __init__(self, limits, now_us, remove):
        self.start, self.stop = limits.held.first, limits.cursor
        self._limits = limits
        self._now_us = now_us
        self._remove = remove
        self._messages = limits.messages
        self._bytes = limits.bytes
        self._end = None

    def concerns(self, topic):
        return topic.limits is self._limits

    def goes(self, batch):
        limits, factor = self._limits, self._limits.keep_factor
        if not self._remove or not (limits.over(self._messages, self._bytes, factor)
                                    or limits.expired(batch.time_us, self._now_us, factor)):
            self._end = batch
            return None
        self._messages -= batch.count
        self._bytes -= batch.size
        return True

    def walked(self, cursor, ended):
        limits = self._limits
        limits.held.first = cursor
        if self._end is not None:
            limits.held.begin(self._end)
        elif ended:
            limits.nothing_held()


class Below:
    """Chooses what :meth:`Store.trim` promises to remove; guards do not hold it back, its caller decides."""

    start = 0

    def __init__(self, wanted, next):
        self.stop = next
        self._wanted = wanted

    def concerns(self, topic):
        return topic.name in self._wanted

    def goes(self, batch):
        return batch.next <= self.stop

    def walked(self, cursor, ended):
        self.start = cursor
