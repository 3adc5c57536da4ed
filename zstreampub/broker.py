"""The broker: publish, subscribe, deliver. The same object with and without a socket.

``deliver`` is fed by what the store made durable, never by publish itself; it runs on the
hub, in offset order, and never waits. A publisher only queues and waits for its answer:
whatever happens to it, commit and fan-out stay together.
"""

import logging
from functools import partial
from uuid import uuid4

from .checks import within
from .clock import now_us
from .compression import zstd_if_there
from .consumers import Consumers
from .errors import (
    EpochMismatch,
    InternalError,
    InvalidOption,
    InvalidTopic,
    LimitExceeded,
    ServerDraining,
    StoreClosed,
    StoreError,
    Unsubscribed,
    ZStreamPubError,
)
from .fanout import FanOut
from .filtered import FilteredSubscription
from .filters.sieve import sieve_of
from .filters.words import filters_of_a_member
from .intake import Intake
from .policy import BUILT_IN, find_policy
from .receipts import Receipts
from .schedule import Schedule
from .settings import Settings
from .sifter import Sifter
from .start import Starts
from .subscription import Subscription
from .threaded import ThreadBroker
from .topics import PatternSet, check_topic
from .views.ports import Port
from .views.table import Table
from .views.workqueue import WorkQueue

logger = logging.getLogger(__name__)


class Broker(Intake):
    """Publishes into *store* and fans out what it made durable.

    ``policies`` are Policy classes that subscribers may ask for besides the built-in ones.
    """

    def __init__(self, store, settings=None, policies=()):
        super().__init__(store, settings or Settings())
        self.epoch = store.epoch
        self._fan_out = FanOut(store.bounds()[1], self._answer, self._turned, self._fail_by_bug)
        self._sifter = Sifter(self._end_by_bug)
        self.schedule = Schedule(store, self.append, self.settings.max_scheduled, self._fail_by_bug)
        self.policies = {**BUILT_IN, **{policy.name: policy for policy in policies}}
        self.zstd = zstd_if_there()         # for whom batches travel compressed
        self.subscriptions = {}
        self._readers = {}                  # of the consumers, by name
        self.on_failed = _ignore
        self.server_stats = dict            # a server puts its counters here
        self.starts = Starts(store, lambda: self.next)
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

    @property
    def next(self):
        """The next offset: everything below was delivered."""
        return self._fan_out.next

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
        self.starts.trims_of_delivered()
        if done and not self.pending_bytes:
            self._idle.set()

    def _answer(self, append):
        reply, append.reply = append.reply, None        # who is told holds it: a circle would keep its batches a while
        try:
            reply(append)
        except Exception as error:      # the publisher's own callback must not tear the fan-out of the others
            self.report(error)

    def _fail_by_bug(self, error):
        self._fail(self.report(error))

    def _end_by_bug(self, subscription, error):
        subscription.end(self.report(error))

    def _fail(self, error):
        if self.failed is None:
            self.failed = error
            self.on_failed(error)

    def tail_from(self, cursor):
        """Return the batches from *cursor* on if they are all in memory still, else None."""
        return self._fan_out.tail_from(cursor)

    # --- subscribing ---------------------------------------------------------------------------

    def subscribe(self, patterns=None, *, start="new", until=None, epoch=None, policy=None, max_messages=None,
                  max_bytes=None, block_timeout_s=None, name=None, filters=None, consumer=None, **joining):
        """Return a :class:`Subscription` to *patterns* (text or a list of texts; None: all topics).

        With *consumer*, a name, it is a Member of that durable consumer, see :meth:`Consumers.join`, which says what
        else may be given; *patterns* None then means those that it has.

        *start*: ``"new"``, ``"earliest"``, an offset, ``{"time": seconds}``, ``{"last": n}`` or
        ``"last"``; *until*: an offset or ``"end"``; *filters*: which messages it wants, see docs/filters.rst.
        Raises InvalidTopic, InvalidOption, OffsetOutOfRange, EpochMismatch, LimitExceeded.
        """
        self.check_thread()
        self.check_admission()
        if consumer is not None:
            if filters is not None:
                raise filters_of_a_member()
            _refuse(until=until, epoch=epoch, policy=policy, max_messages=max_messages, block_timeout_s=block_timeout_s)
            return self.consumers.join(consumer, patterns, start=start, max_bytes=max_bytes, subscription_name=name,
                                       **joining)
        if joining:
            raise InvalidOption(f"{next(iter(joining))} is for members of a consumer; name it, too.")
        wanted = self.check_patterns(patterns)
        limits = self.settings
        bounds = dict(
            max_messages=within("max_messages", max_messages, limits.queue_messages, 1, limits.max_queue_messages),
            max_bytes=within("max_bytes", max_bytes, limits.queue_bytes, 1, limits.max_queue_bytes),
            block_timeout_s=within("block_timeout_s", block_timeout_s, limits.block_timeout_s, 0,
                                    limits.max_block_timeout_s, float))
        sieve = sieve_of(filters)
        policy = find_policy(limits.policy if policy is None else policy, self.policies)
        if epoch is not None and epoch != self.epoch:
            raise EpochMismatch(f"This log is {self.epoch}, not {epoch!r}: it was made anew or restored. "
                                "Its offsets mean other messages; start from 'earliest' or 'new'.", epoch=self.epoch)
        where = self.starts.find(start, wanted, until)
        until = self.starts.find_until(until)
        kind = Subscription if sieve is None else partial(FilteredSubscription, sieve, self._sifter)
        subscription = kind(self, uuid4().hex, wanted, policy, until=until, name=name, **bounds, **where)
        self.check_admission()     # finding the start may have taken a while
        return self._add(subscription)

    def unsubscribe(self, id):
        """End the subscription called *id*; return whether there was one."""
        if not isinstance(id, str):
            raise InvalidOption(f"The id of a subscription is text, not {type(id).__name__}.", option="id")
        subscription = self.subscriptions.get(id)
        if subscription is None:
            return False
        subscription.end(Unsubscribed("Somebody called unsubscribe with this subscription's id."))
        return True

    def remove(self, subscription):
        """Forget *subscription* (it calls this as it ends)."""
        found = self.subscriptions.pop(subscription.id, None) or self._readers.pop(subscription.id, None)
        if found is not None:
            self._fan_out.remove(subscription.offered)

    def add_reader(self, reader):
        """Feed *reader*, the subscription of a consumer, which is nobody's own."""
        self._readers[reader.id] = reader
        self._fan_out.add(reader)
        reader.begin()

    def _add(self, subscription):
        self.subscriptions[subscription.id] = subscription
        self._fan_out.add(subscription.offered)
        subscription.begin()
        return subscription

    def check_patterns(self, patterns):
        """Return *patterns* (text or a list of texts) as a PatternSet, within the limits."""
        if patterns is None:
            patterns = ">"
        if isinstance(patterns, str):
            patterns = [patterns]
        most = self.settings.max_patterns
        if not isinstance(patterns, (list, tuple)):
            raise InvalidTopic(f"patterns is text or a list of texts, not {type(patterns).__name__}.")
        if not 1 <= len(patterns) <= most:
            raise LimitExceeded(f"A subscription has 1 to {most} patterns, not {len(patterns)}.", limit=most)
        return PatternSet(patterns)

    def check_admission(self):
        """Raise ServerDraining or LimitExceeded if there can be no more subscriptions now."""
        if self._draining:
            raise ServerDraining("The server is shutting down; subscribe to the next one.", resume=self.next)
        most = self.settings.max_subscriptions
        if len(self.subscriptions) >= most:
            raise LimitExceeded(f"There are {most} subscriptions already (max_subscriptions).", limit=most)

    # --- looking -------------------------------------------------------------------------------

    def get(self, offset):
        """Return the message at *offset*, or None."""
        return _only(self.batch_at(offset))

    def batch_at(self, offset):
        """Return the message at *offset* as a batch of one, or None."""
        return self.store.get(within("offset", offset, None, 0, 1 << 53))

    def last(self, topic, key=None):
        """Return the newest message of *topic* (with *key*), or None, also if that one has expired."""
        return _only(self.last_batch(topic, key))

    def last_batch(self, topic, key=None):
        """Return what :meth:`last` does as a batch of one, or None."""
        check_topic(topic)
        if key is not None and not isinstance(key, (str, bytes)):
            raise InvalidOption(f"key is text or bytes, not {type(key).__name__}.", option="key")
        batch = self.store.last(topic, key)
        return None if batch is None or batch.soonest_expiry <= now_us() else batch

    def topics(self, patterns=">"):
        """Return ``[{"topic", "messages", "bytes", "next"}, ...]`` of what is kept."""
        return [topic for topic in self.store.topics(self.check_patterns(patterns)) if topic["messages"]]

    def describe_subscriptions(self):
        """Return one map for each subscription, for people and dashboards."""
        return [subscription.describe() for subscription in self.subscriptions.values()]

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

    def report(self, error):
        """Log *error* with its traceback under a reference; return the InternalError to show instead."""
        if isinstance(error, ZStreamPubError):
            return error
        reference = uuid4().hex[:12]
        logger.error("internal error %s", reference, exc_info=error)
        return InternalError(f"An internal error; the server's log has it under {reference}.", reference=reference)

    def drain(self, timeout_s=None):
        """Take no more messages, wait for the pending ones, end all subscriptions with ServerDraining."""
        self._draining = True
        self.schedule.stop()
        self._idle.wait(timeout_s)
        self.receipts.release()
        self.consumers.drain()
        for subscription in tuple(self.subscriptions.values()):
            subscription.end(ServerDraining("The server is shutting down. Nothing is lost: subscribe to the next one "
                                            "from where this one stopped."))

    def close(self):
        """Drain, then close the store. Calling it again does nothing."""
        if self.failed is None or not isinstance(self.failed, StoreClosed):
            self.drain(self.settings.drain_timeout_s)
            self.consumers.close()
            self.failed = StoreClosed("The broker is closed.")
            self.store.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _refuse(**options):
    for name, value in options.items():
        if value is not None:
            raise InvalidOption(f"{name} is for subscriptions; a member of a consumer has none.", option=name)


def _only(batch):
    return None if batch is None else batch.verified_messages()[0]


def _ignore(_):
    pass

