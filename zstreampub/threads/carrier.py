"""Calls of any thread, carried to one hub.

gevent objects belong to the thread of their hub. A :class:`Carrier` takes each call to the
hub and runs it there in a greenlet. The thread that asks waits on a native lock, or, if it has a
hub of its own, as a greenlet does: its others go on. It works in monkey-patched programs too,
for threads that are real (``gevent.threadpool``, C code, ``_thread``).
"""

import os

import gevent

from ..errors import StoreClosed
from .waits import allocate_lock, new_wait, thread_id


class Carrier:
    """Takes calls of other threads to the hub of the thread that makes it."""

    def __init__(self):
        self.loop = gevent.get_hub().loop
        self._home = thread_id()
        self._process = os.getpid()
        self._gate = allocate_lock()
        self._calls = set()         # under way; touched on the hub only
        self._is_closed = self._is_mute = False

    def call(self, function, undo=None, block=False):
        """Run *function* in a greenlet of the hub; return or raise what it does.

        If whoever waits is interrupted, the greenlet is killed; if it had a result already,
        ``undo(result)`` is called, on the hub. *block*: all of the calling thread waits, its other greenlets as well.
        """
        if thread_id() == self._home:
            raise RuntimeError("This is the hub's own thread: call what lives here itself, and this only in others.")
        if os.getpid() != self._process:
            raise RuntimeError("This was opened in another process, before a fork. Open it after the fork.")
        wait = new_wait(block)
        call = Call(function, undo, wait.wake)
        try:
            if not self.post(self.start, call):
                call.give_up()
            wait.wait()
        except BaseException:
            self.post(call.abandon)
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
        self.post(self._mute_calls)

    def close(self):
        """Raise StoreClosed in whoever still waits, and in all who call later."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self.loop.run_callback_threadsafe(self._give_up_calls)

    def post(self, function, *args):
        """Have ``function(*args)`` called on the hub, where it must not wait; return False if this is closed.

        Not for finalizers: the collector may come by in here.
        """
        with self._gate:
            if not self._is_closed:
                self.loop.run_callback_threadsafe(function, *args)
            return not self._is_closed

    def start(self, call):
        """Run *call* in a greenlet; on the hub only."""
        if not call.abandoned:
            self._calls.add(call)
            call.forget = self._calls.discard
            call.greenlet = gevent.spawn(call.run)

    def _mute_calls(self):
        for call in self._calls:
            call.wake = _nothing

    def _give_up_calls(self):
        for call in tuple(self._calls):
            call.give_up()


class Call:
    """One call that is carried; but for the waiting, all of it happens on the hub. ``wake()`` tells who waits."""

    def __init__(self, function, undo, wake):
        self.result = self.error = self.greenlet = None
        self.abandoned = self.is_done = False
        self.wake = wake
        self.forget = None      # what the carrier is told by that it is no longer under way
        self._function = function
        self._undo = undo

    def run(self):
        """The greenlet."""
        result = error = None
        try:
            result = self._function()
        except BaseException as raised:     # carried to the thread that asked, whatever it is
            error = raised
        self.forget(self)
        self._finish(result, error)
        self = error = None     # this frame is part of the error's traceback: neither is to keep the other

    def abandon(self):
        """Take note that nobody waits for it any more."""
        self.abandoned = True
        if self.is_done:
            self._take_back()
        elif self.greenlet is not None:
            self.greenlet.kill(block=False)
            self.forget(self)       # a greenlet that has not begun never runs

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


def _nothing():
    pass
