"""Consumers: all durable consumers of a broker; what callers, members and the lane use.

State is kept in memory and in the store's journal and records (see journal.py); the hub decides,
one transaction makes it true. Whatever is answered here is on disk.
"""

from ..errors import ServerDraining
from .answering import Answering
from .joining import Joining
from .letters import Letters
from .loading import load


class Consumers(Answering, Letters, Joining):
    """Made by the broker. ``by_name`` has every :class:`Consumer`.

    ``on_acked`` is a list of functions: each is called on the hub with ``(name, runs)`` when messages were
    acknowledged and that is on disk, ``runs`` being a flat list ``[first, next, first, next, ...]``; they
    must not wait. :meth:`watch` is for a single offset. ``clock`` may be replaced before the first use.
    """

    def load(self):
        """Read what was written down (the broker calls this once, before anything else)."""
        load(self, self._writing)
        now = self.clock.now()
        for consumer in self.by_name.values():
            self.watch_time(consumer, now)
        self.guard(*self.by_name.values())        # also if there are none: until it hears, the store may remove nothing

    def drain(self):
        """End all members; what they settle is taken until :meth:`close`."""
        self.draining = True
        for consumer in tuple(self.by_name.values()):
            for member in tuple(consumer.members):
                member.end(ServerDraining("The server is shutting down. Nothing is lost: join again on the next one."))
            for taker in tuple(consumer.takers):
                taker.cancel()

    def close(self):
        """Hand the last changes to the store, which will be closed next."""
        self._closed = True
        self._stop_guard_timer()
        self._timing.close()
        self._writing.write()
