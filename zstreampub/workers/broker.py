"""The broker of a worker: the outlet of a log that another process writes."""

import gevent
from gevent.event import Event

from .. import checks
from ..errors import NotWriter, StoreClosed
from ..outlet import Outlet
from ..policy import find_policy

_PATIENCE_S = 5.0       # for messages that the writer has told of already


class WorkerBroker(Outlet):
    """Fans out what comes to *store*, a FollowedStore; *writer* are the endpoints of the process that writes it."""

    def __init__(self, store, settings, writer):
        super().__init__(store, settings)
        self.writer = writer
        self._grown = Event()
        store.torn, store.asked = self._torn, self.let_go
        store.follow(self._fan_out.deliver, self._fail)

    def not_here(self, what):
        """Return the error of whoever asks a worker for *what*."""
        return NotWriter(f"{what} is not served by a worker, which only reads. Ask the writer: "
                         f"{' or '.join(self.writer)}.", writer=self.writer)

    def subscribe(self, patterns=None, *, start="new", policy=None, consumer=None, **options):
        """Do as :meth:`Outlet.subscribe`, but wait for a *start* that is a little ahead of what this process knows."""
        if consumer is not None:
            raise self.not_here("A member of a consumer")
        if find_policy(self.settings.policy if policy is None else policy, self.policies).holds_publisher:
            raise self.not_here("A subscription that holds publishers (policy 'block')")
        offset = checks.whole(start)
        if offset is not None:
            self._wait_for(offset)
        return super().subscribe(patterns, start=start, policy=policy, **options)

    def stats(self):
        """Return counters; docs/operations.rst says what each means."""
        first, _ = self.store.bounds()
        return {
            "epoch": self.epoch, "first": first, "next": self.next,
            "published": self._fan_out.published, "offered": self._fan_out.offered,
            "filtered": self._sifter.filtered, "sift_us": self._sifter.turn_us.summary(),
            "subscriptions": len(self.subscriptions), "deliver_us": self._fan_out.turn_us.summary(),
            "store": self.store.stats(), "server": self.server_stats(),
        }

    def drain(self, timeout_s=None):
        """End all subscriptions with ServerDraining."""
        self._draining = True
        self._end_subscriptions()

    def close(self):
        if self.failed is None or not isinstance(self.failed, StoreClosed):
            self.failed = StoreClosed("The broker is closed.")
        self.drain()
        self.store.close()

    def _wait_for(self, offset):
        with gevent.Timeout(_PATIENCE_S, False):
            while self.next < offset:
                self._grown.clear()
                self._grown.wait()

    def _turned(self, done):
        super()._turned(done)
        self._grown.set()

    def _torn(self, next):
        self._fan_out.tear(next, self._lapse)

    def _lapse(self):
        for subscription in tuple(self.subscriptions.values()):
            subscription.offered.lapse()
