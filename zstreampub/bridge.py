"""A broker for native threads: its calls carried to its hub, from any other thread.

gevent objects belong to the thread of their hub. A :class:`Carrier` takes each call to the
hub and runs it there in a greenlet. The thread that asks waits on a native lock, or, if it has a
hub of its own, as a greenlet does: its others go on. It works in monkey-patched programs too,
for threads that are real (``gevent.threadpool``, C code, ``_thread``).
"""

import os
from collections import deque

import gevent
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter

from .errors import StoreClosed
from .ports import Port
from .table import Table
from .workqueue import WorkQueue

_allocate_lock = monkey.get_original("_thread", "allocate_lock")
thread_id = monkey.get_original("_thread", "get_ident")     # the patched one tells greenlets apart
_BATCHES = 64       # carried over in one go


class Carrier:
    """Takes calls of other threads to the hub of the thread that makes it."""

    def __init__(self):
        self._loop = gevent.get_hub().loop
        self._home = thread_id()
        self._process = os.getpid()
        self._gate = _allocate_lock()
        self._calls = set()         # under way; touched on the hub only
        self._is_closed = self._is_mute = False

    def call(self, function, undo=None, block=False):
        """Run *function* in a greenlet of the hub; return or raise what it does.

        If whoever waits is interrupted, the greenlet is killed; if it had a result already,
        ``undo(result)`` is called, on the hub. *block*: all of the calling thread waits, its other greenlets as well.
        """
        if thread_id() == self._home:
            raise RuntimeError("This is the hub's own thread: use the broker itself here, the bridge in others.")
        if os.getpid() != self._process:
            raise RuntimeError("This was opened in another process, before a fork. Open it after the fork.")
        hub = None if block else get_hub_if_exists()
        wait = _LockWait() if hub is None else _HubWait(hub)
        call = _Call(function, undo, wait.wake)
        try:
            self._post(self._start, call)
            wait.wait()
        except BaseException:
            self._post(call.abandon)
            raise
        finally:
            wait.leave()
        error, result = call.error, call.result
        del call
        if error is None:
            return result
        try:
            raise error
        finally:
            del error       # else its traceback and this frame would keep each other, and the caller's frames as well

    def run(self, function, undo=None):
        """Like :meth:`call`; in the hub's own thread it simply calls *function*."""
        return function() if thread_id() == self._home else self.call(function, undo)

    def mute(self):
        """Answer nobody any more but who calls next: the process ends, and threads that wait are to die waiting."""
        self._is_mute = True
        self._post(self._mute_calls)

    def close(self):
        """Raise StoreClosed in whoever still waits, and in all who call later."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self._loop.run_callback_threadsafe(self._give_up_calls)

    def _post(self, function, *args):
        with self._gate:
            if not self._is_closed:
                self._loop.run_callback_threadsafe(function, *args)
                return
        if args:
            args[0].give_up()

    def _start(self, call):
        if not call.abandoned:
            self._calls.add(call)
            call.greenlet = gevent.spawn(call.run, self._calls.discard)

    def _mute_calls(self):
        for call in self._calls:
            call.wake = _nothing

    def _give_up_calls(self):
        for call in tuple(self._calls):
            call.give_up()


class _Call:
    """One call that is carried; but for the waiting, all of it happens on the hub."""

    def __init__(self, function, undo, wake):
        self.result = self.error = self.greenlet = None
        self.abandoned = self.is_done = False
        self.wake = wake
        self._function = function
        self._undo = undo

    def run(self, forget):
        result = error = None
        try:
            result = self._function()
        except BaseException as raised:     # carried to the thread that asked, whatever it is
            error = raised
        forget(self)
        self._finish(result, error)
        self = error = None     # this frame is part of the error's traceback: neither is to keep the other

    def abandon(self):
        """Take note that nobody waits for it any more."""
        self.abandoned = True
        if self.is_done:
            self._take_back()
        elif self.greenlet is not None:
            self.greenlet.kill(block=False)

    def give_up(self):
        """End it: what it was carried to is closed."""
        self._finish(None, StoreClosed("This is closed."))
        if self.greenlet is not None:
            self.greenlet.kill(block=False)

    def _finish(self, result, error):
        if self.is_done:
            return
        self.is_done = True
        self.result, self.error = result, error
        if self.abandoned:
            self._take_back()
        else:
            self.wake()

    def _take_back(self):
        if self.error is None and self._undo is not None:
            gevent.spawn(self._undo, self.result)


class _LockWait:
    """How a thread without a hub waits."""

    def __init__(self):
        self._lock = _allocate_lock()
        self._lock.acquire()
        self.wake = self._lock.release
        self.wait = self._lock.acquire

    def leave(self):
        """Be done with it."""


class _HubWait:
    """How a greenlet waits, of another hub than the one where the call runs."""

    def __init__(self, hub):
        self._waiter = Waiter(hub)
        self.wait = self._waiter.get
        self._bell = hub.loop.async_()
        self._bell.start(self._waiter.switch, None)
        self._gate = _allocate_lock()

    def wake(self):
        with self._gate:
            if self._bell is not None:
                self._bell.send()

    def leave(self):
        with self._gate:        # a bell must not be rung once it is closed
            bell, self._bell = self._bell, None
        bell.stop()
        bell.close()


class ThreadBridge:
    """Made on the broker's hub (``broker.for_threads()``), used in any other thread.

    ``consumers`` has the methods of the broker's: create, fetch, ack, describe, ...
    """

    def __init__(self, broker):
        carrier = Carrier()
        self._broker = broker
        self._call = carrier.call
        self._run = carrier.run
        self.consumers = _Carried(carrier.call, lambda: broker.consumers)

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
        """Return a :class:`~zstreampub.workqueue.WorkQueue` that any thread may use."""
        return WorkQueue(Port(self._broker, self._run), name, **options)

    def table(self, topic, **options):
        """Return a :class:`~zstreampub.table.Table` that any thread may use."""
        return Table(Port(self._broker, self._run), topic, **options)


class _Carried:
    """An object whose methods run on the hub."""

    def __init__(self, call, target):
        self._call = call
        self._target = target

    def __getattr__(self, name):
        method = getattr(self._target(), name)
        return lambda *args, **options: self._call(lambda: method(*args, **options))


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


def _nothing():
    pass
