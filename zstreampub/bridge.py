"""A broker for native threads: publish and subscribe from outside its hub.

gevent objects belong to the thread of their hub. A :class:`ThreadBridge` carries each call to the
hub, runs it there in a greenlet, and lets the calling thread wait on a native lock. It works
in monkey-patched programs too, for threads that are real (``gevent.threadpool``, C code, ``_thread``).
"""

from collections import deque

import gevent
from gevent import monkey

_allocate_lock = monkey.get_original("_thread", "allocate_lock")
thread_id = monkey.get_original("_thread", "get_ident")     # the patched one tells greenlets apart
_BATCHES = 64       # carried over in one go


class ThreadBridge:
    """Made on the broker's hub (``broker.for_threads()``), used in any other thread."""

    def __init__(self, broker):
        self._broker = broker
        self._loop = gevent.get_hub().loop
        self._home = thread_id()

    def publish(self, topic, payload, *, timeout_s=None, **options):
        """Like :meth:`Broker.publish`; waits in the calling thread."""
        return self._call(lambda: self._broker.publish(topic, payload, timeout_s=timeout_s, **options))

    def publish_many(self, topic, payloads, *, timeout_s=None, **options):
        """Like :meth:`Broker.publish_many`; waits in the calling thread."""
        return self._call(lambda: self._broker.publish_many(topic, payloads, timeout_s=timeout_s, **options))

    def subscribe(self, patterns=">", **options):
        """Like :meth:`Broker.subscribe`; the result is iterated and closed in any thread but the hub's."""
        return ThreadSubscription(self._call, self._call(lambda: self._broker.subscribe(patterns, **options)))

    def _call(self, function):
        """Run *function* in a greenlet of the hub; return or raise what it does."""
        if thread_id() == self._home:
            raise RuntimeError("This is the hub's own thread: use the broker itself here, the bridge in others.")
        done = _allocate_lock()
        done.acquire()
        outcome = []

        def run():
            try:
                outcome.extend((function(), None))
            except BaseException as error:      # carried to the thread that asked, whatever it is
                outcome.extend((None, error))
            finally:
                done.release()

        self._loop.run_callback_threadsafe(gevent.spawn, run)
        done.acquire()
        result, error = outcome
        if error is not None:
            raise error
        return result


class ThreadSubscription:
    """A subscription as a native thread sees it: iterate for messages (and gaps)."""

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
            if not hasattr(item, "messages"):
                return item             # a gap
            self._messages.extend(item.messages())
        return self._messages.popleft()

    def batches(self):
        """Iterate over whole batches (and gaps)."""
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

