"""The methods that a zerorpc client can call, as an ordinary class.

``zstreampub.Server(Service(broker))`` serves it fast and safely. A stock
``zerorpc.Server(Service(broker))`` works too, with stock zerorpc's weaknesses: one bad
packet can stop it, and a slow subscriber learns why it was cut off only when it
reads. Subclass it to add methods and ``@zerorpc.stream`` methods of your own.
"""

import time

import msgpack
import zerorpc
from gevent.event import Event

from . import requests
from .compression import ZSTD
from .consumer_methods import ConsumerMethods
from .described import described
from .handouts import open_feed
from .version import __version__


class Service(ConsumerMethods):
    """A durable publish-subscribe service on *broker*."""

    def __init__(self, broker):
        self._broker = broker

    @described
    def publish(self, topic, payload, options=None):
        """Store one message durably; returns its offset, or what delay_s, at and wait say in docs/protocol.rst.

        options: headers, key, id, unique, expected_next, ttl_s, delay_s, at, wait, wait_count, wait_for,
        wait_timeout_s, producer, sequence, deadline, deadline_clock.
        """
        return self._publish("publish", topic, payload, options)

    @described
    def publish_many(self, topic, payloads, options=None):
        """Store a list of messages, all or none; returns [first, next], or as publish does.

        options: headers, keys, ids, and all others of publish.
        """
        return self._publish("publish_many", topic, payloads, options)

    @described
    def append(self, batches, options=None):
        """Store packed batches, all or none; returns the first offset of each.

        options: producer, sequence, deadline, deadline_clock. The format: docs/protocol.rst.
        """
        return self._publish("append", batches, options)

    @zerorpc.stream
    @described
    def subscribe(self, patterns=None, options=None):
        """Stream the messages of topics that match; patterns: text or a list, '>' for all.

        options: start, until, epoch, policy, max_messages, max_bytes, block_timeout_s, format, compression, name,
        filters, movable.
        With consumer (a name): join that durable consumer and share its messages; acknowledge with ack.
        """
        form, arguments = requests.parse_subscribe(patterns, options)
        subscription = self._broker.subscribe(**arguments)
        feed = open_feed(form, self._broker, subscription)
        ready = _Alarm(subscription, self._broker.settings.keepalive_s)
        try:
            yield _plain(feed.greeting(self._broker.settings.heartbeat_s))
            while True:
                item = feed.next_item()
                if item is None and subscription.ended:
                    break
                if item is None and not ready.wait():
                    alive = feed.keepalive()
                    item = alive and [alive]
                if item is not None:
                    yield _plain(b"".join(item))
            yield _plain(feed.end_item())
            if subscription.error is not None:
                raise subscription.error
        finally:
            subscription.close()

    @described
    def unsubscribe(self, subscription_id):
        """End the subscription with this id; returns whether there was one."""
        return self._broker.unsubscribe(subscription_id)

    @described
    def cancel(self, schedule_id):
        """Take back what was published with delay_s or at; returns whether it still waited."""
        return self._broker.schedule.cancel(schedule_id)

    @described
    def scheduled(self, options=None):
        """List what waits for its time: id, topic, at, size; options: topic (pattern), after (an id), limit."""
        return self._broker.schedule.list(**requests.check_options(options, ("topic", "after", "limit")))

    @described
    def topics(self, pattern=">"):
        """List what is kept: topic, messages, bytes, next offset."""
        return self._broker.topics(pattern)

    @described
    def get(self, offset):
        """Return the message at this offset, or nil."""
        return _as_map(self._broker.batch_at(offset))

    @described
    def last(self, topic, key=None):
        """Return the newest message of a topic, with this key if given, or nil."""
        return _as_map(self._broker.last_batch(topic, key))

    @described
    def subscriptions(self):
        """List the live subscriptions: patterns, policy, position, lag, queue."""
        return self._broker.describe_subscriptions()

    @described
    def stats(self):
        """Return the server's counters."""
        return self._broker.stats()

    @described
    def about(self):
        """Return version, epoch, bounds of the log, the server's clock, heartbeat and limits, and its workers."""
        broker, settings = self._broker, self._broker.settings
        limits = ("heartbeat_s", "keepalive_s", "max_message_bytes", "max_batch_messages", "max_batch_bytes",
                  "queue_messages", "queue_bytes", "policy")
        return {"version": __version__, "epoch": broker.epoch, "first": broker.store.bounds()[0],
                "next": broker.next, "clock": time.monotonic(), "time": time.time(),
                "compressions": [ZSTD] if broker.zstd else [],
                "workers": broker.workers.describe() if broker.workers else [],
                **{name: getattr(settings, name) for name in limits}}

    def _publish(self, name, *args):
        return self._broker.submit_and_wait(requests.parse_publishing(name, self._broker, args))


class _Alarm:
    """Wakes the stream of one subscription; made once, before the first item is looked for."""

    def __init__(self, subscription, keepalive_s):
        self._event = Event()
        self._keepalive_s = keepalive_s
        subscription.on_ready = self._event.set

    def wait(self):
        """Wait for something to take; return False if there is nothing after the keepalive time."""
        woken = self._event.wait(self._keepalive_s)
        self._event.clear()
        return woken


def _as_map(batch):
    return None if batch is None else batch.maps()[0]


def _plain(item):
    return msgpack.unpackb(item)
