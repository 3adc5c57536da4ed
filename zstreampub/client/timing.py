"""When to give up and when to try again: many deadlines at once, and a growing pause. Nothing here waits."""

import random
from time import monotonic


class Deadlines:
    """Entries that each have until a time; adding one and forgetting one cost the same however many there are.

    An entry has an attribute ``timeout_s`` and a method ``expire()``. Entries with the same
    ``timeout_s`` expire in the order in which they were added, so each such queue is sorted
    as it stands; a program has few different timeouts.
    """

    def __init__(self, clock=monotonic):
        self._clock = clock
        self._queues = {}

    def __len__(self):
        return sum(map(len, self._queues.values()))

    def add(self, entry):
        """Have *entry* expire in ``entry.timeout_s`` seconds; return the time at which."""
        deadline = self._clock() + entry.timeout_s
        queue = self._queues.get(entry.timeout_s)
        if queue is None:
            queue = self._queues[entry.timeout_s] = {}
        queue[entry] = deadline
        return deadline

    def discard(self, entry):
        """Forget *entry*, if it is there."""
        queue = self._queues.get(entry.timeout_s)
        if queue is not None:
            queue.pop(entry, None)

    def expire(self, now):
        """Call ``expire()`` on each entry whose time has come; return when the next is due, None if there is none."""
        earliest = None
        for timeout_s, queue in list(self._queues.items()):
            late = []
            for entry, deadline in queue.items():
                if deadline > now:
                    earliest = deadline if earliest is None else min(earliest, deadline)
                    break
                late.append(entry)
            for entry in late:
                if queue.pop(entry, None) is not None:
                    entry.expire()
            if not queue:
                self._queues.pop(timeout_s, None)
        return earliest


class Backoff:
    """A pause that doubles from *first_s* to *most_s*, each time shortened at random by up to a half."""

    def __init__(self, first_s=0.05, most_s=2.0, uniform=random.uniform):
        self._first_s = self._next_s = first_s
        self._most_s = most_s
        self._uniform = uniform

    def pause_s(self):
        """Return how long to wait before the next try."""
        pause, self._next_s = self._next_s, min(self._next_s * 2, self._most_s)
        return pause * self._uniform(0.5, 1)

    def reset(self):
        """Begin again with the shortest pause: it worked."""
        self._next_s = self._first_s
