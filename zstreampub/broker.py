"""The broker: publish, subscribe, deliver. The same object with and without a socket.

``deliver`` is fed by what the store made durable, never by publish itself; it runs on the
hub, in offset order, and never waits. A publisher only queues and waits for its answer:
whatever happens to it, commit and fan-out stay together.
"""

from .consumers import Consumers
from .errors import InvalidOption, StoreClosed, StoreError
from .filters.words import filters_of_a_member
from .intake import Intake
from .outlet import Outlet
from .policy import find_policy
from .receipts import Receipts
from .schedule import Schedule
from .settings import Settings
from .threaded import ThreadBroker
from .views.ports import Port
from .views.table import Table
from .views.workqueue import WorkQueue


class Broker(Intake, Outlet):
    """Publishes into *store* and fans out what it made durable.

    ``policies`` are Policy classes that subscribers may ask for besides the built-in ones.
    """

    def __init__(self, store, settings=None, policies=()):
        Outlet.__init__(self, store, settings or Settings(), policies)
        Intake.__init__(self)
        self.schedule = Schedule(store, self.append, self.settings.max_scheduled, self._fail_by_bug)
        self._readers = {}                  # of the consumers, by name
        self.receipts = Receipts(self)
        self.consumers = Consumers(self)
        store.follow(self._deliver, self._fail, self.consumers.removed)
        self.schedule.load()
        self.consumers.load()

    @classmethod
    def open(cls, url="lmdb:zstreampub-data", settings=None, policies=()):
        """Open the store at *url* (``lmdb:DIR`` or ``memory:``) and return its broker."""
        from .stores import open_store  # lmdb is loaded only by who opens a store
        settings = settings or Settings()
        return cls(open_store(url, settings), settings, policies)

    # --- delivering --------------------------------------------------------------------------

    def _deliver(self, appends):
        """Take what the store has finished, fan it out, then answer the publishers (the store calls this)."""
        if self.receipts.expected:
            self.receipts.stored(appends)
        for append in appends:
            self.pending_bytes -= append.size
            if append.error is not None:
                self.refused += 1
                if type(append.error) is StoreError:    # the writer is dead; a full store is a subclass
                    self._fail(append.error)
        self._fan_out.deliver(appends)

    def _turned(self, done):
        super()._turned(done)
        if done and not self.pending_bytes:
            self._idle.set()

    # --- subscribing ---------------------------------------------------------------------------

    def subscribe(self, patterns=None, *, start="new", until=None, epoch=None, policy=None, max_messages=None,
                  max_bytes=None, block_timeout_s=None, name=None, filters=None, movable=False, consumer=None,
                  **joining):
        """Return a :class:`Subscription` to *patterns* (text or a list of texts; None: all topics).

        With *consumer*, a name, it is a Member of that durable consumer, see :meth:`Consumers.join`, which says what
        else may be given; *patterns* None then means those that it has.

        *start*: ``"new"``, ``"earliest"``, an offset, ``{"time": seconds}``, ``{"last": n}`` or
        ``"last"``; *until*: an offset or ``"end"``; *filters*: which messages it wants, see docs/filters.rst.
        With *movable* it raises Moved if a worker serves such subscriptions; later it may be ended by that.
        Raises InvalidTopic, InvalidOption, OffsetOutOfRange, EpochMismatch, LimitExceeded.
        """
        if consumer is not None:
            return self._join(consumer, patterns, filters, start=start, max_bytes=max_bytes, subscription_name=name,
                              unfit=dict(until=until, epoch=epoch, policy=policy, max_messages=max_messages,
                                         block_timeout_s=block_timeout_s), **joining)
        if joining:
            raise InvalidOption(f"{next(iter(joining))} is for members of a consumer; name it, too.")
        if movable and self.workers is not None:
            self.check_admission()
            self.workers.offer(start, find_policy(self.settings.policy if policy is None else policy, self.policies))
        return super().subscribe(patterns, start=start, until=until, epoch=epoch, policy=policy,
                                 max_messages=max_messages, max_bytes=max_bytes, block_timeout_s=block_timeout_s,
                                 name=name, filters=filters, movable=movable and self.workers is not None)

    def _join(self, consumer, patterns, filters, unfit, **joining):
        self.check_thread()
        self.check_admission()
        if filters is not None:
            raise filters_of_a_member()
        for name, value in unfit.items():
            if value is not None:
                raise InvalidOption(f"{name} is for subscriptions; a member of a consumer has none.", option=name)
        return self.consumers.join(consumer, patterns, **joining)

    def remove(self, subscription):
        if self._readers.pop(subscription.id, None) is not None:
            self._fan_out.remove(subscription)
        else:
            super().remove(subscription)

    def add_reader(self, reader):
        """Feed *reader*, the subscription of a consumer, which is nobody's own."""
        self._readers[reader.id] = reader
        self._fan_out.add(reader)
        reader.begin()

    # --- looking -------------------------------------------------------------------------------

    def stats(self):
        """Return counters; docs/operations.rst says what each means."""
        first, _ = self.store.bounds()
        return {
            "epoch": self.epoch, "first": first, "next": self.next,
            "published": self._fan_out.published, "refused": self.refused, "offered": self._fan_out.offered,
            "filtered": self._sifter.filtered, "sift_us": self._sifter.turn_us.summary(),
            "pending_bytes": self.pending_bytes, "subscriptions": len(self.subscriptions),
            "deliver_us": self._fan_out.turn_us.summary(), "scheduled": self.schedule.stats(),
            "consumers": self.consumers.stats(), "store": self.store.stats(), "server": self.server_stats(),
        }

    def queue(self, name="default", **options):
        """Return a :class:`~zstreampub.views.workqueue.WorkQueue`, for the greenlets of this thread."""
        return WorkQueue(Port(self), name, **options)

    def table(self, topic, **options):
        """Return a :class:`~zstreampub.views.table.Table` of *topic*, for the greenlets of this thread."""
        return Table(Port(self), topic, **options)

    def for_threads(self):
        """Return a :class:`~zstreampub.threaded.ThreadBroker`, with which native threads use this broker."""
        self.check_thread()
        return ThreadBroker(self)

    # --- ending ----------------------------------------------------------------------------------

    def drain(self, timeout_s=None):
        """Take no more messages, wait for the pending ones, end all subscriptions with ServerDraining."""
        self._draining = True
        self.schedule.stop()
        self._idle.wait(timeout_s)
        self.receipts.release()
        self.consumers.drain()
        self._end_subscriptions()

    def close(self):
        """Drain, then close the store. Calling it again does nothing."""
        if self.failed is None or not isinstance(self.failed, StoreClosed):
            self.drain(self.settings.drain_timeout_s)
            self.consumers.close()
            self.failed = StoreClosed("The broker is closed.")
            self.store.close()
