"""What rates remember, as records for whoever keeps them: a directory of its own (kept.py), or the store behind."""

from hashlib import blake2b

import msgpack

from ..checks import within
from ..clock import now_us


class Memory:
    """What *rates* remember, one record of each group of each: a key of 16 bytes, and a value.

    Arrivals go by the calendar from now on: the next process is to understand them.
    """

    def __init__(self, rates):
        self._rates = [(msgpack.packb((rate.name, number)), rate) for number, rate in enumerate(rates)]
        self._used_us = 0
        for rate in rates:
            rate.now_us = now_us
            rate.changed = set()

    def restore(self, records):
        """Remember what is in *records*, pairs of key and value, and nothing else.

        Return the keys of those that are of other filters. Raises ValueError, TypeError, InvalidOption for what is no
        such record.
        """
        names, known, others = {name for name, _ in self._rates}, [], []
        for key, value in records:
            name, *facts = msgpack.unpackb(value)
            if name in names:
                known.append((name, *facts))
            else:
                others.append(key)
        known.sort(key=lambda facts: facts[1])      # what was used longest ago is the first to be forgotten
        for name, rate in self._rates:
            rate.groups = {(topic, key): within("number", number, None, -1 << 63, 1 << 63)
                           for one, _, topic, key, number in known if one == name}
            rate.changed = set()
        if known:
            self._used_us = known[-1][1]
        return others

    def changes(self):
        """Return what has changed since this was asked last, key -> value, or None for what was forgotten."""
        found: dict = {}
        if not any(rate.changed for _, rate in self._rates):
            return found
        self._used_us = max(self._used_us + 1, now_us())    # the clock may go back, and what is used last may not
        for name, rate in self._rates:
            for group in rate.changed:
                number = rate.groups.get(group)
                key = blake2b(msgpack.packb((name, *group)), digest_size=16).digest()
                found[key] = None if number is None else msgpack.packb((name, self._used_us, *group, number))
            rate.changed = set()
        return found
