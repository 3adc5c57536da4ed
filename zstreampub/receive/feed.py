"""Feeds: what a receiver reads from a server, on the hub where the client lives.

A feed has ``open(patterns, place)``, ``take()``, ``wake()``, ``stop()``, ``pause(seconds)``, ``place`` and ``close()``.
``take`` waits for something and returns a list: batches, deliveries, plain values, and GapErrors where messages
are missing; it returns an empty list once after ``wake``, and None at the end. It takes no more than TAKE_BYTES of
batches (or one larger batch), TAKE_DELIVERIES deliveries: what a receiver has in hand. Everything else waits in the
client's window or at the server. A place is ``(offset, epoch)``.
"""

from contextlib import suppress
from time import monotonic

from gevent.event import Event

from ..client import Client
from ..errors import ConnectionLost, GapError, InvalidOption, RequestTimeout, SubscriptionEnded

TAKE_BYTES = 256 * 1024
TAKE_DELIVERIES = 256
_OF_CLIENT = ("timeout_s", "heartbeat_s")


class HubFeed:
    """Base of the feeds that a hub runs: the client, and how to wait."""

    def __init__(self, address, options):
        self._changed = Event()
        self._is_woken = self._is_stopped = False
        self._address = address
        self._of_client = {name: options[name] for name in _OF_CLIENT if name in options}
        self._options = {name: value for name, value in options.items() if name not in _OF_CLIENT}
        self._client = None
        self._reading = None        # the Subscription or Consumption

    @property
    def client(self):
        """The client; made when it is first needed."""
        if self._is_stopped:
            raise ConnectionLost("The receiver was stopped.")
        if self._client is None:
            self._client = Client(self._address, **self._of_client)
        return self._client

    def take(self):
        """Return what there is; wait for something."""
        while True:
            if self._is_woken:
                self._is_woken = False
                return []
            self._changed.clear()
            try:
                taken = self._take_some()
            except SubscriptionEnded as ended:
                if type(ended) is SubscriptionEnded:        # its kinds are reasons to be told
                    return None
                raise
            if taken:
                return taken
            self._changed.wait()

    def wake(self):
        """Have ``take``, or the next one, return at once."""
        self._is_woken = True
        self._changed.set()

    def stop(self):
        """As ``wake``, for good: an ``open`` that waits for the server is given up. Never waits."""
        self._is_stopped = True
        self.wake()
        if self._reading is None and self._client is not None:
            self._client.close()

    def pause(self, seconds):
        """Wait that long, or until somebody wakes it."""
        ends = monotonic() + seconds
        while not self._is_woken and (left := ends - monotonic()) > 0:
            self._changed.clear()
            self._changed.wait(left)
        self._is_woken = False

    def close(self):
        """Leave; what was taken and is not settled goes to others, where there are others."""
        self._leave()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _leave(self):
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

    def _take_some(self):
        raise NotImplementedError


class SubscriptionFeed(HubFeed):
    """Reads a subscription at *address*."""

    patterns: tuple = ()

    def open(self, patterns, place):
        """Read from *place* on, None: from where the source says; at once instead of what was read before."""
        self._leave()
        if self._options.get("until") == "end":
            self._options["until"] = self.client.about()["next"]    # fixed here, for another opening must not move it
        options = self._options
        if place is not None:
            offset, epoch = place
            options = {**options, "start": offset, "epoch": epoch}
        self._reading = self.client.subscribe(list(patterns), **options)
        self._reading.watch(self._changed.set)

    @property
    def place(self):
        return self._reading.offset, self._reading.epoch

    def _take_some(self):
        taken, size = [], 0
        with suppress(RequestTimeout):
            while size < TAKE_BYTES:
                try:
                    batch = self._reading.get_batch(timeout_s=0)
                except GapError as gap:
                    return [*taken, gap]
                except Exception:
                    if taken:
                        break       # it is raised again by the next take
                    raise
                taken.append(batch)
                size += batch.size
        return taken


class ConsumerFeed(HubFeed):
    """Reads as a member of a consumer at *address*. Its place is the consumer's own affair."""

    most = TAKE_DELIVERIES

    def __init__(self, address, consumer, options):
        super().__init__(address, options)
        self._consumer = consumer

    def open(self, patterns, place):
        """Join; messages in hand are given back."""
        self._leave()
        self._reading = self.client.consume(list(patterns) or None, self._consumer, **self._options)
        self._reading.watch(self._changed.set)

    @property
    def place(self):
        return None, self._reading.epoch

    def floor(self):
        """Return the offset below which everything is settled."""
        return self.client.consumer(self._consumer)["floor"]

    def is_ours(self, delivery):
        """Tell, in any thread, whether *delivery* is still ours to work on."""
        reading = self._reading
        return reading is not None and reading.is_ours(delivery)

    @property
    def deliveries(self):
        """Where deliveries are settled, on the hub."""
        return self._reading

    def _take_some(self):
        self._reading.working = 0       # all that was taken before is settled
        taken = []
        with suppress(RequestTimeout):
            while len(taken) < self.most:
                try:
                    taken.append(self._reading.get(timeout_s=0))
                except GapError as gap:
                    return [*taken, gap]
                except Exception:
                    if taken:
                        break
                    raise
                self._reading.working = 1       # leases are renewed while it is
        return taken


class OpenFeed(SubscriptionFeed):
    """Reads a subscription that somebody has opened, one by one, and leaves it open at the next message."""

    def __init__(self, subscription):
        super().__init__(None, {})
        self._theirs = subscription

    def open(self, patterns, place):
        if patterns:
            raise InvalidOption("This receiver reads a subscription that is open already: its patterns cannot be "
                                "changed. Give the server's address as source instead.", option="patterns")
        self._reading = self._theirs
        self._reading.watch(self._changed.set)

    def _take_some(self):
        try:
            return [self._reading.get(timeout_s=0)]
        except GapError as gap:
            return [gap]
        except RequestTimeout:
            return []

    def _leave(self):
        if self._reading is not None:
            self._reading.watch(None)
            self._reading = None


class OpenConsumerFeed(ConsumerFeed):
    """Reads a consumption that somebody has opened, one by one, and leaves it open at the next message."""

    most = 1

    def __init__(self, consumption):
        super().__init__(None, consumption.consumer, {})
        self._theirs = consumption

    def open(self, patterns, place):
        self._reading = self._theirs
        self._reading.watch(self._changed.set)

    def floor(self):
        return 0

    def _leave(self):
        if self._reading is not None:
            self._reading.watch(None)
            self._reading = None
