"""A native thread with a hub of its own, where a broker or a client lives for callers of any kind.

So a script without gevent has a hub that always runs, and a gevent program may use it from all its threads.
"""

import atexit
import os
import weakref

import gevent

from .carrier import Carrier
from .waits import allocate_lock, start_thread

_homes = weakref.WeakSet()


class Home:
    """Starts the thread. ``inside`` is what *open* has made there; ``carrier`` takes calls there."""

    def __init__(self, open):
        self._process = os.getpid()
        self._closed = False
        self._ended = allocate_lock()
        self._ended.acquire()
        ready = allocate_lock()
        ready.acquire()
        start_thread(self._live, (ready.release,))
        ready.acquire()
        try:
            self.inside = self.carrier.call(open, block=True)
        except BaseException:
            self._end_thread()
            raise
        _homes.add(self)

    @property
    def is_here(self):
        """Whether the thread is in this process; after a fork, it is the parent's."""
        return os.getpid() == self._process

    def close(self, quietly=False):
        """Close what is inside and end the thread; whoever waits for an answer gets StoreClosed.

        The calling thread is held until that is done. *quietly*: those who wait go on waiting, for the
        process ends. Calling it again does nothing.
        """
        was_closed, self._closed = self._closed, True
        if was_closed or not self.is_here:
            return
        if quietly:
            self.carrier.mute()
        try:
            self.carrier.call(self.inside.close, block=True)
        finally:
            self._end_thread()

    def _end_thread(self):
        self.carrier.close()
        self._bell.send()
        self._ended.acquire()

    def _live(self, tell_ready):
        """The thread."""
        hub = gevent.get_hub()
        try:
            self._bell = hub.loop.async_()
            self.carrier = Carrier()
            tell_ready()
            hub.wait(self._bell)
            gevent.sleep(0)     # a turn for what was asked before
            self._bell.close()
        finally:
            hub.destroy(destroy_loop=True)
            self._ended.release()


@atexit.register
def _close_all():
    for home in tuple(_homes):
        home.close(quietly=True)
