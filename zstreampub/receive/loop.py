"""The loop of a receiver: from its feed to its callbacks or its store, and what is done about trouble.

It runs in a greenlet or in a native thread, whatever its feed is made for, and waits only there.
"""

from ..errors import GapError
from ..message import Batch
from .verdicts import RETRY, Stopped, new_backoff

_IDLE_S = 60.0


class Loop:
    """One run of a receiver. *source* says what to ask for, *place* where to begin (None: where the source says).

    ``on_open()`` is called when the feed has been opened; ``place`` is where a next run would go on: all below it was
    handed over.
    """

    def __init__(self, feed, source, routes, judge, on_gap, place, on_open):
        self.feed = feed
        self.judge = judge
        self.place = place
        self.is_stopping = False
        self._source, self._routes = source, routes
        self._on_gap, self._on_open = on_gap, on_open
        self._changes = None        # of the routes, when the feed was opened
        self._is_stale = True
        self._backoff = new_backoff()

    @property
    def interrupted(self):
        """Whether what is in hand is to be left: it is read again, or not any more."""
        return self.is_stopping or (self._source.is_renewable and self._changes != self._routes.changes)

    def stop(self):
        """End soon, in any thread."""
        self.is_stopping = True
        self.feed.stop()

    def run(self, sink):
        """Hand over to *sink* until the end, or until stopped; return the error that stopped it, or None."""
        try:
            self._begin(sink)
            while not self.is_stopping and self._turn(sink):
                pass
        except Stopped as stopped:
            return stopped.args[0]
        finally:
            sink.finish()
        return None

    def reached(self, message):
        """Take note that *message* was handed over: a subscription would go on after it."""
        offset = getattr(message, "offset", None)
        if self._source.is_renewable and offset is not None:
            self.place = offset + 1, self.place[1]

    def gap(self, gap):
        """Tell of messages that will not come; whatever the verdict but "stop" is, it goes on after them."""
        if self._on_gap is not None:
            self._on_gap(gap)
        else:
            self.judge.verdict(gap, None)

    def pause(self, backoff):
        """Wait before the next try. Raises Stopped if it is to stop."""
        if not self.is_stopping:
            self.feed.pause(backoff.pause_s())
        if self.is_stopping:
            raise Stopped(None)

    def _begin(self, sink):
        """Ask *sink* where it has been; errors of its store are judged like those of the connection."""
        while not self.is_stopping:
            try:
                self.place = sink.place() or self.place
                return
            except Exception as error:
                self.judge.verdict(error, None)
                self.pause(self._backoff)

    def _turn(self, sink):
        """Take what there is and hand it over; return False at the end."""
        try:
            if (self.interrupted or self._is_stale) and not self._open(sink):
                self.feed.pause(_IDLE_S)
                return True
            taken = self.feed.take()
        except Exception as error:
            self._is_stale = True
            if not self.is_stopping:
                self.judge.verdict(error, None)
                self.pause(self._backoff)
            return True
        if taken is None:
            return False
        self._backoff.reset()
        if not taken or sink.take(taken):
            self.place = self.feed.place        # nothing is in hand
            sink.reached(self.place)
        return True

    def _open(self, sink):
        """Open the feed, anew or with other patterns; return False if nobody wants anything."""
        self._changes = self._routes.changes
        patterns = self._source.patterns(self._routes)
        if self._source.is_renewable and not patterns:
            self.place, self._is_stale = None, True
            return False
        self.feed.open(patterns, self.place)
        self._is_stale = False
        self.place = self.feed.place
        sink.opened()
        self._on_open()
        return True


def messages_of(taken):
    """Yield the messages, and the GapErrors where some are missing."""
    for one in taken:
        if isinstance(one, Batch):
            yield from one.messages()
        else:
            yield one


def is_gap(one):
    return isinstance(one, GapError)


class Tries:
    """The tries of one message: ``again(error)`` asks what to do, waits, and returns whether to try once more."""

    def __init__(self, loop, message):
        self._loop = loop
        self._message = message
        self._backoff = None

    def again(self, error):
        if self._loop.judge.verdict(error, self._message) != RETRY:
            return False
        self._backoff = self._backoff or new_backoff()
        self._loop.pause(self._backoff)
        return True
