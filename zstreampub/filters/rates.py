"""Rates: filters that remember. At most one message in a period, or every so many-th, of all, of a topic, or of a key.

What they remember of each topic or key is one number; of MAX_GROUPS at most, then the one that was used longest ago is
forgotten, and the next message of it passes.
"""

from time import monotonic_ns

from .fields import at_places
from .stamps import stamps_us

MAX_GROUPS = 10_000


def monotonic_us():
    """The clock of arrivals where nothing is kept: no correction of the time of day moves it."""
    return monotonic_ns() // 1000


class Rate:
    """Base. ``groups`` maps a group, ``(topic, key)``, to a number; ``changed`` collects which, if somebody keeps them.

    ``name`` says what it is a rate of: the numbers of an earlier run belong to a rate of the same name.
    """

    def __init__(self, per, name):
        self.groups = {}
        self.changed = None
        self.name = name
        self._per = per

    def pick(self, opened, places):
        """Return those of *places* that pass."""
        raise NotImplementedError

    def _group_of(self, opened):
        """Return the one group of all messages of *opened*."""
        return (opened.topic if self._per == "topic" else None, None)

    def _groups_of(self, opened, places):
        keys = opened.metadata("key")
        if keys is None:
            return [(opened.topic, None)] * len(places)
        topic = opened.topic
        return [(topic, key) for key in at_places(keys, places)]

    def _remember(self, group, number):
        """Set what is known of *group*, which is the one used last now."""
        groups = self.groups
        groups.pop(group, None)
        groups[group] = number
        if self.changed is not None:
            self.changed.add(group)
        if len(groups) > MAX_GROUPS:
            oldest = next(iter(groups))
            del groups[oldest]
            if self.changed is not None:
                self.changed.add(oldest)


class MinPeriod(Rate):
    """Passes a message if none passed in the *period_us* before it.

    *stamps* is the column of its own times; None with *arrival* False: when it was stored. With *arrival* *now_us*
    counts. A time that goes back by a period or more starts anew: a clock that was corrected does not silence a
    stream. A message without a time that can be read passes.
    """

    def __init__(self, period_us, stamps, arrival, per, name, now_us=monotonic_us):
        super().__init__(per, name)
        self._period_us = period_us
        self._stamps = stamps
        self._arrival = arrival
        self.now_us = now_us

    def pick(self, opened, places):
        if self._stamps is None:
            stamp = self.now_us() if self._arrival else opened.time_us
            if self._per != "key":      # all have one time and one group
                return places[:1] if self._passes(self._group_of(opened), stamp) else []
            stamps = [stamp] * len(places)
        else:
            stamps = stamps_us(self._stamps(opened, places))
        if self._per == "key":
            groups, passes = self._groups_of(opened, places), self._passes
            return [at for at, group, stamp in zip(places, groups, stamps) if passes(group, stamp)]
        return self._pick_of_one(self._group_of(opened), places, stamps)

    def _passes(self, group, stamp):
        if stamp is None:
            return True
        last = self.groups.get(group)
        if last is not None and abs(stamp - last) < self._period_us:
            return False
        self._remember(group, stamp)
        return True

    def _pick_of_one(self, group, places, stamps):
        kept, period_us, last = [], self._period_us, self.groups.get(group)
        before = last
        for at, stamp in zip(places, stamps):
            if stamp is not None:
                if last is not None and -period_us < stamp - last < period_us:
                    continue
                last = stamp
            kept.append(at)
        if last is not before:
            self._remember(group, last)
        return kept


class Every(Rate):
    """Passes the first of each *count* messages."""

    def __init__(self, count, per, name):
        super().__init__(per, name)
        self._count = count

    def pick(self, opened, places):
        if self._per != "key":
            group = self._group_of(opened)
            seen = self.groups.get(group, 0)
            self._remember(group, (seen + len(places)) % self._count)
            return places[-seen % self._count::self._count]
        kept, groups = [], self.groups
        for at, group in zip(places, self._groups_of(opened, places)):
            seen = groups.get(group, 0)
            self._remember(group, (seen + 1) % self._count)
            if not seen:
                kept.append(at)
        return kept
