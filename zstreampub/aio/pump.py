"""The hub's side of what a coroutine reads: a greenlet that carries it over, as far ahead as there is room.

Rules: everything goes over in the order in which it was read, gaps and controls too. What is not used yet
counts until the reader gives it back; while there is no room nothing is taken from the stream, and so
the server gets no credit.
"""

from functools import partial

import gevent
from gevent.event import Event

from ..errors import GapError, SubscriptionEnded
from .asking import Asking

MOST_MESSAGES = 4096            # of a subscription that are ahead of its reader
MOST_BYTES = 1 << 20            # of them, packed; one message may have more
MOST_DELIVERIES = 64            # of a member that are ahead of its reader
_GOODBYE_S = 2.0                # the longest that what is being opened may take to be closed


class End:
    """The last thing that goes over: normally, or with an error."""

    def __init__(self, error):
        self.error = error


class Pump:
    """Base: reads ``inside``, the gevent client's reader, for the coroutine's that *reader* is a weak reference to."""

    most_messages = MOST_MESSAGES

    def __init__(self, line, reader):
        self.inside = None
        self._line = line
        self._reader = reader
        self._asking = Asking(line)
        self._messages = self._bytes = 0        # that are ahead
        self._room = Event()
        self._opener = self._carrier = None     # greenlets
        self._is_closed = False

    # --- on the hub -----------------------------------------------------------------------------

    def open(self, make, callbacks):
        """Make ``inside`` with ``make(**callbacks)``; return it. Waits."""
        self._opener = gevent.getcurrent()
        try:
            inside = make(**{name: self._carried(callback) for name, callback in callbacks.items() if callback})
        except gevent.GreenletExit:
            raise SubscriptionEnded("It was closed while it was being opened.") from None
        finally:
            self._opener = None
        self.inside = inside
        return inside

    def start(self):
        """Begin to carry."""
        if self._carrier is None and not self._is_closed:
            self._carrier = gevent.spawn(self._work)

    def give_back(self, messages, size):
        """Take note that the reader has used so much."""
        self._messages -= messages
        self._bytes -= size
        self._room.set()

    def close(self):
        """End it, also while it is being opened. Waits for the server as ``inside`` does."""
        self._is_closed = True
        if self._opener is not None:
            self._opener.join(_GOODBYE_S)       # what the server has opened is to be closed there
        for greenlet in (self._opener, self._carrier):
            if greenlet is not None:
                greenlet.kill()
        if self.inside is not None:
            self.inside.close()

    def close_soon(self):
        """Like :meth:`close`; never waits."""
        gevent.spawn(self.close)

    def _work(self):
        while True:
            try:
                self._carry()
                error = None
            except GapError as gap:
                self._offer(gap)
                continue
            except Exception as raised:
                error = raised
            self._tell(End(error), 0, 0)
            return

    def _carry(self):
        """Read until the end."""
        raise NotImplementedError

    def _offer(self, content, messages=1, size=0):
        """Carry *content* over when there is room; what is larger than all the room goes alone."""
        while self._messages and (self._messages + messages > self.most_messages or self._bytes + size > MOST_BYTES):
            self._room.clear()
            self._room.wait()
        self._messages += messages
        self._bytes += size
        self._tell(content, messages, size)

    def _tell(self, content, messages, size):
        self._line.to_loop(_arrive, self._reader, (content, messages, size, getattr(self.inside, "offset", None)))

    def _carried(self, callback):
        """Return what calls *callback* in the event loop: at its place in the stream if this greenlet reads it."""
        def call(control):
            if gevent.getcurrent() is self._carrier:
                self._offer(partial(callback, control))
            else:
                self._asking.call(callback, control)
        return call


class SubscriptionPump(Pump):
    """Carries batches, large ones in parts."""

    def _carry(self):
        for batch in self.inside.batches():
            for part in parts(batch, MOST_MESSAGES // 2, MOST_BYTES // 2):
                self._offer(part, part.count, part.size)


class ConsumptionPump(Pump):
    """Carries deliveries. Their leases are renewed until they are handed out, as if they had stayed on the hub."""

    most_messages = MOST_DELIVERIES

    def hand_on(self, delivery):
        """Take note that the program has got it."""
        self.inside.hand_on(delivery)
        self.give_back(1, 0)

    def _carry(self):
        while (delivery := self.inside.take_ahead()) is not None:
            self._offer(delivery)


def parts(batch, most_messages, most_bytes):
    """Yield *batch* in parts of at most so many messages and bytes; of one message, whatever its size."""
    at = 0
    while at < batch.count:
        rest = batch.slice(at, batch.count)
        count = rest.count
        if count > most_messages or rest.size > most_bytes:
            count = max(rest.count_within(most_bytes, most_messages), 1)
        yield rest.slice(0, count)
        at += count


def _arrive(reader, item):
    one = reader()
    if one is not None:
        one.arrive(item)
