"""Outbound: what leaves the lane, streams in line for their turn and frames that a full pipe has not taken.

One greenlet, the pump, sends for all of them. Nothing else here waits, and nothing here knows what is in a frame.
"""

from collections import deque
from time import monotonic, perf_counter

import gevent
from gevent.event import Event

from .channels import Stream
from .zmtp.link import PeerGone

_TURN_S = 0.002             # how long the pump may hold the hub
_STUCK_S = 0.005            # how often a full pipe is tried again whose transport does not tell that it has room


class Outbound:
    """Sends to peers. ``guard(channel, step)`` runs a step of a channel; ``lose(peer)`` is called for one who is gone,
    ``release(peer)`` for one to whom everything has been sent.
    """

    def __init__(self, guard, lose, release):
        self.frames = 0             # that have left
        self._guard, self._lose, self._release = guard, lose, release
        self._line = deque()        # of streams
        self._stuck = {}            # id -> peer, of those for whom something waits
        self._roomy = []            # ids: of the stuck, those that have room again
        self._work = Event()
        self._closed = False

    @property
    def stuck(self):
        """How many peers take no more for now."""
        return len(self._stuck)

    @property
    def is_idle(self):
        """Whether nothing waits."""
        return not self._line and not self._stuck

    def send(self, peer, *parts):
        """Send *parts*, one frame, to *peer*, or keep them until its pipe has room; return whether they left."""
        if self._closed:
            return False        # the broker may outlive the server, and so may an answer that it owes
        if not peer.unsent:
            try:
                if peer.transport.send(peer.id, *parts):
                    self.frames += 1
                    return True
            except PeerGone:
                self._lose(peer)
                return False
        peer.unsent.append(parts)
        peer.unsent_bytes += sum(map(len, parts))
        self._stuck[peer.id] = peer
        self._work.set()
        return False

    def line_up(self, stream):
        """Give *stream* its turn with the pump soon."""
        if not self._line:
            self._work.set()
        self._line.append(stream)

    def emptied(self, id):
        """Learn that there is room again for the peer *id*."""
        if id in self._stuck:
            self._roomy.append(id)
            self._work.set()

    def forget(self, peer):
        """Drop what waits for *peer*."""
        peer.unsent.clear()
        peer.unsent_bytes = 0
        self._stuck.pop(peer.id, None)

    def close(self):
        """Send nothing any more."""
        self._closed = True

    # --- the pump -------------------------------------------------------------------------

    def run(self):
        """Send, turn after turn (a task of the lane's; never returns)."""
        retry_at = 0.0
        while True:
            if self._line:
                gevent.idle(2)      # polls, unlike sleep(0)
            else:
                self._work.wait(_STUCK_S if self._stuck else None)
            self._work.clear()
            roomy, self._roomy = self._roomy, []
            if self._stuck and monotonic() >= retry_at:     # not at every turn: others may be busy
                self._send_stuck(tuple(self._stuck.values()))
                retry_at = monotonic() + _STUCK_S
            elif roomy:
                self._send_stuck([self._stuck[id] for id in roomy if id in self._stuck])
            self._turn()

    def _turn(self):
        ends = perf_counter() + _TURN_S
        while self._line and perf_counter() < ends:
            stream = self._line.popleft()
            stream.queued = False
            if stream.peer.channels.get(stream.id) is stream:
                self._guard(stream, stream.pump)

    def _send_stuck(self, peers):
        for peer in peers:
            self._send_backlog(peer)
            if not peer.unsent:
                self._stuck.pop(peer.id, None)
                self._release(peer)
                for channel in tuple(peer.channels.values()):
                    if isinstance(channel, Stream):
                        channel.wake()

    def _send_backlog(self, peer):
        while peer.unsent:
            parts = peer.unsent[0]
            try:
                if not peer.transport.send(peer.id, *parts):
                    return
            except PeerGone:
                self._lose(peer)
                return
            self.frames += 1
            peer.unsent.popleft()
            peer.unsent_bytes -= sum(map(len, parts))
