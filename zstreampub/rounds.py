"""Rounds: a look at every channel, twenty times in a heartbeat: who is silent, and who is to hear from us.

The lane's heartbeats, and how it finds out who vanished without a word (who left is found in leavers.py).
"""

import logging
from time import monotonic

import gevent

from .stats import Histogram

logger = logging.getLogger(__name__)

_TICKS = 20                 # rounds in the time of one heartbeat
_EARLY_TICKS = 2            # a beat is sent so much before its time, for rounds come at ticks and take a while
_LOOK_S = 0.001             # how long a round may hold the hub at a time


class Rounds:
    """Goes through the channels of *peers*, the lane's own dict; ``guard(channel, step, ...)`` runs each step of one.

    ``beat_s`` is when the next beat of a channel is due after one, seconds: what is promised is no later than
    *heartbeat_s*. ``lost`` counts the peers that were given up, ``hub_lag_us`` is how late the rounds began.
    """

    def __init__(self, peers, heartbeat_s, guard):
        self.beat_s = heartbeat_s * (1 - _EARLY_TICKS / _TICKS)
        self.hub_lag_us = Histogram()
        self.lost = 0
        self._peers = peers
        self._heartbeat_s = heartbeat_s
        self._guard = guard

    def run(self):
        """Go round after round, and measure the hub's lag on the way (a task of the lane's; never returns)."""
        pause = self._heartbeat_s / _TICKS
        while True:
            due = monotonic() + pause
            gevent.sleep(pause)
            self.hub_lag_us.add(max(monotonic() - due, 0) * 1e6)
            self.go()

    def go(self):
        """Look at every channel, a few at a time: thousands may be due to beat at once, and others have turns too."""
        now, ends = monotonic(), 0.0
        for channel in [channel for peer in self._peers.values() for channel in peer.channels.values()]:
            if now >= ends:
                gevent.idle(2)      # polls, unlike sleep(0)
                ends = monotonic() + _LOOK_S
            now = monotonic()
            if channel.peer.channels.get(channel.id) is channel:
                self._guard(channel, self.look_at, channel, now)

    def look_at(self, channel, now):
        """Give *channel* up if its client is silent, beat if it is due, and let it say that there is nothing to say."""
        if channel.beats and now - channel.seen > 2 * self._heartbeat_s:
            if channel.suspect:
                logger.info("peer %s lost: silent for %.1f s", channel.peer.id.hex(), now - channel.seen)
                self.lost += 1
                channel.give_up(now - channel.seen)
                return
            channel.suspect = True      # what has arrived is read before anybody is declared lost
        else:
            channel.suspect = False
        if now >= channel.beat_at and not channel.peer.unsent:      # what waits is a sign of life too, once it is read
            channel.beat_at = now + self.beat_s
            channel.beat()
        channel.keep_alive(now)
