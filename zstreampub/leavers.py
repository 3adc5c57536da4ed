"""Finds out at once who has left, if others wait for what he held: the members of durable consumers.

ZeroMQ tells that a connection has broken, but not whose it was; that shows when something is sent.
So each peer with members is sent a heartbeat, a few at a time. Other peers are found out by their own
next heartbeat, and so is a machine that vanished without closing its connections.
"""

from time import perf_counter

import gevent
from gevent.event import Event

_LEAVING_S = 0.002      # from the end of a connection until sending to it fails
_TURN_S = 0.001         # of looking, then others have
_PAUSE_S = 0.01         # ten times as long


class Leavers:
    """Looks through *peers*, the lane's own dict."""

    def __init__(self, peers):
        self._peers = peers
        self._left = Event()
        self.somebody_left = self._left.set

    def run(self):
        """Look whenever somebody has left (a task of the lane's; never returns)."""
        while True:
            self._left.wait()
            gevent.sleep(_LEAVING_S)
            self._left.clear()
            self._look()

    def _look(self):
        ends = perf_counter() + _TURN_S
        for peer in [peer for peer in self._peers.values() if peer.members and not peer.unsent]:
            if peer.members:
                next(iter(peer.members)).beat()
            if perf_counter() > ends:
                gevent.sleep(_PAUSE_S)
                ends = perf_counter() + _TURN_S
