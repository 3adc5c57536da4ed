"""What a work queue and a table need of a log: one object for a broker, a client, and either from other threads.

``run(function, undo)`` calls *function* on the hub where the log lives and returns what it returns;
a :class:`~zstreampub.threads.carrier.Carrier` has one for other threads.
"""

import gevent

_LONGEST_LEASE_S = 366 * 86_400.0


def run_here(function, undo=None):
    """Run *function* in the calling greenlet."""
    return function()


class Port:
    """Of a Broker.

    ``is_alone``: no other process takes anything, so nobody waits for what this one holds.
    """

    is_alone = True
    ack_wait_s = _LONGEST_LEASE_S

    def __init__(self, log, run=run_here):
        self.log = log
        self.run = run

    @property
    def consumers(self):
        """What has create, describe, fetch, ack, ..."""
        return self.log.consumers

    # --- the queue's ---------------------------------------------------------------------

    def publish(self, topic, payload, **options):
        """Store one message; return its offset."""
        return self.run(lambda: self.log.publish(topic, payload, **options))

    def ask(self, verb, *args, **options):
        """Call a method of the consumers."""
        return self.run(lambda: getattr(self.consumers, verb)(*args, **options))

    def fetch(self, consumer, timeout_s, offset=None):
        """Return the next delivery, or that of *offset*; None if there is none within *timeout_s*."""
        def fetch():
            self.wait_open(timeout_s)
            found = self.consumers.fetch(consumer, 1, timeout_s=timeout_s, offset=offset)
            return found[0] if found else None

        def give_back(delivery):
            if delivery is not None:
                self.consumers.nack(consumer, [(delivery.offset, delivery.token)], delay_s=0)

        return self.run(fetch, give_back)

    def count(self, topic):
        """Return how many messages of *topic* there are in the log."""
        return self.run(lambda: sum(one["messages"] for one in self.log.topics(topic)))

    def is_open(self):
        """Return whether a lost connection may come back."""
        return True

    def wait_open(self, timeout_s):
        """Wait until there is a connection. Raises ConnectionLost. On the hub only."""

    def take_ahead(self, consumer):
        """Be allowed to take items before they are asked for."""

    def give_back(self):
        """Give back what was taken so."""

    def sleep(self, seconds):
        """Let time pass."""
        self.run(lambda: gevent.sleep(seconds))

    def every(self, seconds, function):
        """Call *function* every so often, on the hub, for as long as it returns true."""
        def repeat():
            gevent.sleep(seconds)
            while function():
                gevent.sleep(seconds)

        self.run(lambda: gevent.spawn(repeat))

    # --- the table's: on the hub only ------------------------------------------------------

    def read(self, topic):
        """Return an open Reading of *topic* from its first message to the end of now."""
        return _Reading(self.log.subscribe(topic, start="earliest", until="end"), self.log.epoch)

    def follow(self, topic, start, epoch):
        """Return an open Reading of what comes from offset *start* on; only the newest of a key if that gets late."""
        return _Reading(self.log.subscribe(topic, start=start, epoch=epoch, policy="conflate"), epoch)

    @staticmethod
    def next_in(mismatch):
        """Return the offset that a NextMismatch says is the topic's next."""
        return mismatch.next


class _Reading:
    """A broker's subscription: iterate for batches and gaps. Raises StoreCorrupt where the log is damaged."""

    def __init__(self, subscription, epoch):
        self._subscription = subscription
        self.epoch = epoch
        self.close = subscription.close

    def __iter__(self):
        for item in self._subscription.batches():
            yield item.verify() if hasattr(item, "messages") else item

    @property
    def position(self):
        """The offset to go on from."""
        return self._subscription.position
