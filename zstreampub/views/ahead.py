"""Taking ahead: items of a queue that this process has for itself are handed out some at a time.

A hand-out is a commit, so with one for each item its taker would wait for the disk twice: for that and
for the ack. Whoever asks how things stand is told of what was taken ahead as if it was not.
"""

from gevent import monkey
from gevent.lock import RLock

from .ports import Port

_COUNT = 32
_NativeRLock = monkey.get_original("_thread", "RLock")


class AheadPort(Port):
    """A Port that takes ahead from those consumers for which :meth:`take_ahead` was called."""

    def __init__(self, log, run):
        super().__init__(log, run)
        self._lines = {}        # consumer -> _Line

    def take_ahead(self, consumer):
        """Take ahead of *consumer* from now on."""
        self.run(lambda: self._lines.setdefault(consumer, _Line()))

    def fetch(self, consumer, timeout_s, offset=None):
        line = self._lines.get(consumer)
        if line is None:
            return super().fetch(consumer, timeout_s, offset)
        if offset is not None:
            return line.take_at(offset) or super().fetch(consumer, timeout_s, offset)
        found = line.take_if_next() or self.run(lambda: self._next(line, consumer), line.put_back)
        return found or (super().fetch(consumer, timeout_s) if timeout_s > 0 else None)

    def ask(self, verb, *args, **options):
        line = self._lines.get(args[0])
        if line is None:
            return super().ask(verb, *args, **options)
        if verb in ("ack", "nack", "reject"):
            line.settle(args[1], is_given_back=verb == "nack" and not options.get("delay_s"))
        elif verb == "replace":
            self._untake(line, *args[:2])
        answer = super().ask(verb, *args, **options)
        return getattr(line, f"after_{verb}", _same)(answer)

    def give_back(self):
        for consumer, line in self._lines.items():
            deliveries = line.take_all()
            if deliveries:
                super().ask("nack", consumer, deliveries, unseen=True)

    def _untake(self, line, consumer, offset):
        taken = line.take_at(offset)
        if taken is not None:
            self.ask("nack", consumer, [(offset, taken.token)], unseen=True)

    def _next(self, line, consumer):
        """Return the next delivery that can be had at once, None if there is none."""
        with line.taking:
            while (offset := line.next_given_back()) is not None:
                found = self.consumers.fetch(consumer, 1, offset=offset)
                if found:
                    return found[0]
            found = line.take()
            if found is None:
                line.put(self.consumers.fetch(consumer, _COUNT))
                found = line.take()
            return found


class _Line:
    """What was taken ahead of one consumer, and what was given back while there was some."""

    def __init__(self):
        self.taking = RLock()
        self._lock = _NativeRLock()     # held for moments only, by any thread
        self._taken = {}                # offset -> delivery
        self._given_back = set()

    def take_if_next(self):
        """Return the next delivery if nothing that was given back comes before it."""
        return None if self._given_back else self.take()

    def take(self):
        with self._lock:
            return self._taken.pop(min(self._taken)) if self._taken else None

    def take_at(self, offset):
        with self._lock:
            return self._taken.pop(offset, None)

    def take_all(self):
        """Return ``[(offset, token), ...]`` of all, which are not here any more."""
        with self._lock:
            taken, self._taken = self._taken, {}
        return [(one.offset, one.token) for one in taken.values()]

    def put(self, deliveries):
        with self._lock:
            self._taken.update((one.offset, one) for one in deliveries)

    def put_back(self, delivery):
        """Have again what nobody waited for."""
        if delivery is not None:
            self.put([delivery])

    def settle(self, deliveries, is_given_back):
        """Learn that *deliveries* are settled; what is given back comes before what was taken ahead."""
        with self._lock:
            for one in deliveries:
                offset = one if type(one) is int else one[0]
                self._taken.pop(offset, None)
                if is_given_back and self._taken:
                    self._given_back.add(offset)

    def next_given_back(self):
        """Return the offset of what was given back first, None if nothing was: then all comes in order by itself."""
        with self._lock:
            if not self._taken:
                self._given_back.clear()
            if not self._given_back:
                return None
            offset = min(self._given_back)
            self._given_back.discard(offset)
            return offset

    # --- as if it was not taken ---------------------------------------------------------------

    def after_describe(self, about):
        with self._lock:
            again = sum(one.delivery > 1 for one in self._taken.values())
            return {**about, "in_flight": about["in_flight"] - len(self._taken), "waiting": about["waiting"] + again}

    def after_browse(self, found):
        with self._lock:
            return [_untaken(one) if one["offset"] in self._taken else one for one in found]

    def after_peek(self, found):
        with self._lock:
            if not self._taken or (found is not None and found["offset"] < min(self._taken)):
                return found
            one = self._taken[min(self._taken)]
        return _untaken({**one.as_map(), "delivery": one.delivery})


def _untaken(fields):
    delivery = fields["delivery"] - 1
    return {**fields, "state": "waiting" if delivery else "new", "delivery": delivery}


def _same(answer):
    return answer
