"""A broker for native threads: what it does is carried to its hub, from any other thread."""

from collections import deque

from .threads.carrier import Carrier
from .views.ports import Port
from .views.table import Table
from .views.workqueue import WorkQueue

_BATCHES = 64       # carried over in one go


class ThreadBroker:
    """Made on the broker's hub (``broker.for_threads()``), used in any other thread.

    ``consumers`` has the methods of the broker's: create, fetch, ack, describe, ...
    """

    def __init__(self, broker):
        carrier = Carrier()
        self._broker = broker
        self._call = carrier.call
        self._run = carrier.run
        self.consumers = ThreadConsumers(carrier.call, broker.consumers)

    def publish(self, topic, payload, *, timeout_s=None, **options):
        """Like :meth:`Broker.publish`; waits in the calling thread."""
        return self._call(lambda: self._broker.publish(topic, payload, timeout_s=timeout_s, **options))

    def publish_many(self, topic, payloads, *, timeout_s=None, **options):
        """Like :meth:`Broker.publish_many`; waits in the calling thread."""
        return self._call(lambda: self._broker.publish_many(topic, payloads, timeout_s=timeout_s, **options))

    def subscribe(self, patterns=">", **options):
        """Like :meth:`Broker.subscribe`; the result is iterated and closed in any thread but the hub's."""
        return ThreadSubscription(self._call, self._call(lambda: self._broker.subscribe(patterns, **options)))

    def queue(self, name="default", **options):
        """Return a :class:`~zstreampub.views.workqueue.WorkQueue` that any thread may use."""
        return WorkQueue(Port(self._broker, self._run), name, **options)

    def table(self, topic, **options):
        """Return a :class:`~zstreampub.views.table.Table` that any thread may use."""
        return Table(Port(self._broker, self._run), topic, **options)


class ThreadConsumers:
    """The durable consumers as native threads see them: each method runs on the hub."""

    def __init__(self, call, consumers):
        self._call = call
        self._consumers = consumers

    def __getattr__(self, name):
        method = getattr(self._consumers, name)
        return lambda *args, **options: self._call(lambda: method(*args, **options))

    def fetch(self, name, count=1, **options):
        """Like the broker's; returns a list of :class:`ThreadDelivery`."""
        return [ThreadDelivery(self._call, one)
                for one in self._call(lambda: self._consumers.fetch(name, count, **options))]


class ThreadDelivery:
    """A delivery as a native thread sees it: a message, settled by the same verbs."""

    def __init__(self, call, delivery):
        self._call = call
        self._delivery = delivery

    def __getattr__(self, name):
        return getattr(self._delivery, name)

    def __repr__(self):
        return repr(self._delivery)

    def ack(self):
        """It is done. Raises StaleDelivery if it was delivered to somebody else since."""
        return self._call(self._delivery.ack)

    def nack(self, delay_s=None, reason=None):
        """It is to be delivered again, after *delay_s* (None: as the consumer's backoff says)."""
        return self._call(lambda: self._delivery.nack(delay_s, reason))

    def reject(self, reason=None):
        """It is not to be tried again: it becomes a dead letter."""
        return self._call(lambda: self._delivery.reject(reason))

    def extend(self, seconds):
        """It needs *seconds* more from now on."""
        return self._call(lambda: self._delivery.extend(seconds))


class ThreadSubscription:
    """A subscription, or member of a consumer, as a native thread sees it: iterate for messages (and gaps)."""

    def __init__(self, call, subscription):
        self.id = subscription.id
        self._call = call
        self._subscription = subscription
        self._items = deque()
        self._messages = deque()

    def __iter__(self):
        return self

    def __next__(self):
        while not self._messages:
            item = self._next_item()
            if item is None:
                raise StopIteration
            if hasattr(item, "token"):
                self._messages.extend(ThreadDelivery(self._call, one) for one in item.messages())
            elif hasattr(item, "messages"):
                self._messages.extend(item.messages())
            elif hasattr(item, "why"):
                return item             # a gap
        return self._messages.popleft()

    def batches(self):
        """Iterate over whole batches (and gaps), or what a member is given."""
        while (item := self._next_item()) is not None:
            yield item

    def close(self):
        """End it; a thread that waits in the iteration is told the end."""
        self._call(self._subscription.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _next_item(self):
        if not self._items:
            self._items.extend(self._call(self._take_some))
        return self._items.popleft()

    def _take_some(self):
        items = [self._subscription.get()]
        while items[-1] is not None and len(items) < _BATCHES:
            item = self._subscription.take()
            if item is None:
                break
            items.append(item)
        return items
