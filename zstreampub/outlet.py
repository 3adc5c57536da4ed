"""The outlet of a log: subscriptions, fed by what the store made durable. What a broker can do without publishing.

``deliver`` runs on the hub, in offset order, and never waits.
"""

import logging
from functools import partial
from uuid import uuid4

from .checks import within
from .clock import now_us
from .compression import zstd_if_there
from .errors import (
    EpochMismatch,
    InternalError,
    InvalidOption,
    InvalidTopic,
    LimitExceeded,
    Moved,
    ServerDraining,
    Unsubscribed,
    ZStreamPubError,
)
from .fanout import FanOut
from .filtered import FilteredSubscription
from .filters.sieve import sieve_of
from .policy import BUILT_IN, find_policy
from .sifter import Sifter
from .start import Starts
from .subscription import Subscription
from .threads.waits import thread_id
from .topics import PatternSet, check_topic

logger = logging.getLogger(__name__)


class Outlet:
    """Fans out what *store* made durable.

    ``policies`` are Policy classes that subscribers may ask for besides the built-in ones; ``workers`` knows where else
    they may be served, None: nowhere.
    """

    def __init__(self, store, settings, policies=()):
        self.store = store
        self.settings = settings
        self.epoch = store.epoch
        self.policies = {**BUILT_IN, **{policy.name: policy for policy in policies}}
        self.zstd = zstd_if_there()         # for whom batches travel compressed
        self.subscriptions = {}
        self.opened = 0                     # subscriptions, since the start
        self.movable = {}                   # those that can go elsewhere
        self.failed = None                  # why the store died, if it did
        self.on_failed = _ignore
        self.server_stats = dict            # a server puts its counters here
        self.receipts = NoReceipts()
        self.workers = None
        self._fan_out = FanOut(store.bounds()[1], self._answer, self._turned, self._fail_by_bug)
        self._sifter = Sifter(self._end_by_bug)
        self.starts = Starts(store, lambda: self.next)
        self._thread = thread_id()
        self._draining = False

    @property
    def next(self):
        """The next offset: everything below was delivered."""
        return self._fan_out.next

    # --- delivering --------------------------------------------------------------------------

    def _turned(self, done):
        self.starts.trims_of_delivered()

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
                  max_bytes=None, block_timeout_s=None, name=None, filters=None, movable=False):
        """Return a :class:`Subscription` to *patterns* (text or a list of texts; None: all topics).

        *start*: ``"new"``, ``"earliest"``, an offset, ``{"time": seconds}``, ``{"last": n}`` or
        ``"last"``; *until*: an offset or ``"end"``; *filters*: which messages it wants, see docs/filters.rst.
        *movable*: its reader resumes at another process when it is ended by Moved.
        Raises InvalidTopic, InvalidOption, OffsetOutOfRange, EpochMismatch, LimitExceeded.
        """
        self.check_thread()
        self.check_admission()
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
        if movable:
            self.movable[subscription.id] = subscription
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
        self.movable.pop(subscription.id, None)
        if self.subscriptions.pop(subscription.id, None) is not None:
            self._fan_out.remove(subscription.offered)

    def let_go(self, count):
        """End the *count* newest subscriptions that can go elsewhere, or all, if there are fewer."""
        for subscription in list(self.movable.values())[::-1][:count]:
            subscription.end(Moved("There is more room elsewhere. Nothing is lost: subscribe at the server again."))

    def _add(self, subscription):
        self.subscriptions[subscription.id] = subscription
        self.opened += 1
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

    def check_thread(self):
        """Raise RuntimeError in any thread but the one that opened it."""
        if thread_id() != self._thread:
            raise RuntimeError("This broker belongs to the thread that opened it. "
                               "Take broker.for_threads() there, and use that here.")

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

    # --- ending ----------------------------------------------------------------------------------

    def report(self, error):
        """Log *error* with its traceback under a reference; return the InternalError to show instead."""
        if isinstance(error, ZStreamPubError):
            return error
        reference = uuid4().hex[:12]
        logger.error("internal error %s", reference, exc_info=error)
        return InternalError(f"An internal error; the server's log has it under {reference}.", reference=reference)

    def _end_subscriptions(self):
        for subscription in tuple(self.subscriptions.values()):
            subscription.end(ServerDraining("The server is shutting down. Nothing is lost: subscribe to the next one "
                                            "from where this one stopped."))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End all subscriptions, then close the store. Calling it again does nothing."""
        raise NotImplementedError


class NoReceipts:
    """Nobody waits until messages have been taken."""

    watched: dict = {}


def _only(batch):
    return None if batch is None else batch.verified_messages()[0]


def _ignore(_):
    pass
