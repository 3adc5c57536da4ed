"""A feed for a native thread: the client lives in another native thread, with a hub of its own.

So a callback may hold its whole thread for as long as it likes: heartbeats and leases go on.
"""

from ..client.delivery import Delivery
from ..errors import RequestTimeout
from ..threads.flag import Flag
from ..threads.home import Home


class CarriedFeed:
    """What *make* returns, called on a hub of its own, as this thread sees it. See :mod:`zstreampub.receive.feed`."""

    def __init__(self, make):
        self._home = Home(make)
        self._call = self._home.carrier.call
        self._feed = self._home.inside

    def open(self, patterns, place):
        self._call(lambda: self._feed.open(patterns, place))

    def take(self):
        taken = self._call(self._feed.take)
        for one in taken or ():
            if isinstance(one, Delivery):
                one.settle_at(self)
        return taken

    def wake(self):
        """In any thread."""
        self._home.carrier.post(self._feed.wake)

    def stop(self):
        """In any thread."""
        self._home.carrier.post(self._feed.stop)

    def pause(self, seconds):
        self._call(lambda: self._feed.pause(seconds))

    @property
    def place(self):
        return self._call(lambda: self._feed.place)

    def floor(self):
        return self._call(self._feed.floor)

    def is_ours(self, delivery):
        return self._feed.is_ours(delivery)

    def close(self):
        self._home.close()

    # --- what deliveries are settled by: in any thread, and without waiting ------------------------

    def settle(self, key, delivery):
        return self._say(lambda: self._feed.deliveries.settle(key, delivery))

    def extend(self, key, delivery):
        return self._say(lambda: self._feed.deliveries.extend(key, delivery))

    def _say(self, say):
        answer = Answer()
        self._home.carrier.post(lambda: answer.follow(say))
        return answer


class Answer:
    """The outcome of what was said of a delivery, for any thread: ``get()`` waits for the server's disk."""

    def __init__(self):
        self._flag = Flag()
        self._error = None

    def get(self, timeout=None):
        """Return None when it is on disk. Raises what was wrong with it, or RequestTimeout."""
        if not self._flag.wait(timeout):
            raise RequestTimeout(f"No answer within {timeout} s.", timeout_s=timeout)
        if self._error is not None:
            raise self._error

    def ready(self):
        return self._flag.is_set

    def successful(self):
        return self._flag.is_set and self._error is None

    def follow(self, say):
        """On the hub: say it, and take over what becomes of it."""
        try:
            say().rawlink(self._take)
        except Exception as error:      # the one who waits is to have it
            self._error = error
            self._flag.set()

    def _take(self, said):
        self._error = None if said.successful() else said.exception
        self._flag.set()
