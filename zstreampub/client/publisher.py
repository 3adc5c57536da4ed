"""Collects what many callers publish into ``append`` requests, keeps a pipeline of them under way, retries.

Each request carries this publisher's random name and a growing sequence, and is sent
again with the same two when its connection was lost: the server stores it once and
answers with the offsets it has. Nothing here waits; whoever publishes waits for its entry.
"""

import os
from collections import deque
from time import monotonic, time

import gevent

from .. import wire
from ..compression import MAX_PLAIN_BYTES
from ..errors import (
    AccessError,
    ConnectionLost,
    DeadlineExceeded,
    InternalError,
    RequestError,
    RequestTimeout,
    SequenceTooOld,
)
from .calls import Request
from .entries import BATCH_OVERHEAD, FRAME_BYTES, MAX_BATCHES, Limits, join

PIPELINE = 32       # requests without an answer
SEQUENCES = 64      # that the server remembers: a request may be sent again while it is one of the last so many

_TWO = b"\x92"      # the head of a list of two
_FOR_ALL = (DeadlineExceeded, SequenceTooOld)       # refusals that are not about one of the messages


class Publisher:
    """All publishing of one client. Until :meth:`learn_limits` was called nothing is sent."""

    def __init__(self, channels):
        self.limits = None
        self.requests = self.messages = 0
        self._channels = channels
        self._name = os.urandom(16)
        self._sequence = 0
        self._compresses = False        # whether the server of this connection is known to take that
        self._clock_ahead_s = None      # how far the server's clock is ahead of ours
        self._calendar_ahead_s = None   # how far its time of day is ahead of our clock, which nobody sets
        self._waiting = deque()
        self._again = deque()           # parts of a refused request: each goes alone
        self._under_way = {}            # request -> None
        self._scheduled = False
        self._is_alone = False          # the last request had one entry, and nobody else published meanwhile
        self.on_limits = lambda: None   # called once the server has said what it takes, on each connection
        self._loop = gevent.get_hub().loop
        channels.on_ready = self._schedule

    def forget_server(self):
        """Take note that the next connection may lead to another server."""
        self._clock_ahead_s = None
        self._compresses = False

    def learn_limits(self, about):
        """Take over what the server says it accepts, and its clock if it tells it."""
        self.limits = Limits(about)
        self._compresses = self.limits.takes_zstd and self._channels.zstd is not None
        self._clock_ahead_s = _ahead_s(about, "clock")
        self._calendar_ahead_s = _ahead_s(about, "time")
        self._schedule()
        self.on_limits()

    def check(self, entry):
        """Raise MessageTooLarge or BatchTooLarge if the server is known not to take *entry*."""
        (self.limits or _DEFAULTS).check(entry)

    def publish(self, entry, timeout_s):
        """Do :meth:`check` and :meth:`submit` of one entry."""
        self.check(entry)
        self.submit((entry,), timeout_s)

    def submit(self, entries, timeout_s):
        """Publish checked *entries*, in order; each gets its outcome within *timeout_s*.

        They leave at the end of the turn, together with others'; at once if their publisher has been alone for a while.
        """
        if not self._channels.is_open:
            for entry in entries:
                entry.settle(None, ConnectionLost("The client is closed."))
            return
        patience = Patience(self, entries, timeout_s)
        patience.deadline = self._channels.expire(patience)
        for entry in entries:
            entry.patience = patience
        alone, self._is_alone = self._is_alone, False
        if alone and len(entries) == 1 and not self._waiting and self._channels.can_send:
            self._request(entries)
        else:
            self._waiting.extend(entries)
            self._schedule()

    def time_out(self, patience):
        """Settle those of its entries that have no outcome yet with RequestTimeout."""
        for entry in patience.entries:
            said = "It was not sent, and will not be." if entry.request is None else "It may or may not be stored."
            text = f"No answer to the publish from {self._channels.server} within {patience.timeout_s} s. {said}"
            self.give_up(entry, RequestTimeout(text, timeout_s=patience.timeout_s))

    def give_up(self, entry, error):
        """Settle *entry* with *error*, unless it is settled; if it was not sent yet, it never will be.

        A request that others still wait for goes on, and is sent again if need be.
        """
        if entry.ready():
            return
        entry.settle(None, error)
        waiting, request = self._waiting, entry.request
        while waiting and waiting[0].ready():
            waiting.popleft()
        if request is not None and all(one.ready() for one in request.entries):
            self._channels.forget(request)
            self.finished(request)

    def patience_ended(self, patience):
        """Take note that all entries of *patience* have their outcome."""
        self._channels.deadlines.discard(patience)

    def close(self, error):
        """Settle everything that was not sent with *error*."""
        rest = [*self._waiting, *(entry for part in self._again for entry in part)]
        self._waiting.clear()
        self._again.clear()
        for entry in rest:
            entry.settle(None, again(error))

    # --- requests ---------------------------------------------------------------------

    def finished(self, request):
        """Take note that *request* is no longer under way."""
        self._under_way.pop(request, None)
        if self._waiting or self._again:
            self._schedule()
        else:
            self._is_alone = len(request.entries) == 1 and not self._under_way

    def split(self, entries):
        """Send the entries of a refused request again, each alone: one bad message must hurt nobody else."""
        for entry in entries:
            if not entry.ready():
                entry.request = None
                self._again.append([entry])
        self._schedule()

    def _schedule(self):
        """Have :meth:`_send` called when everybody who runs in this turn of the loop has published."""
        if not self._scheduled and self.limits is not None:
            self._scheduled = True
            self._loop.run_callback(self._send)

    def _send(self):
        self._scheduled = False
        sent = 0
        while self._may_request and self._channels.can_send:
            if sent >= FRAME_BYTES:
                self._schedule()        # packing more now would hold up everybody else
                return
            entries = self._again.popleft() if self._again else self._take()
            entries = [entry for entry in entries if not entry.ready()]
            if entries:
                sent += self._request(entries)
            elif not self._again and not self._waiting:
                return

    @property
    def _may_request(self):
        """Whether there may be one more request; one whose answer is long in coming must not fall too far behind."""
        oldest = next(iter(self._under_way), None)
        return oldest is None or (len(self._under_way) < PIPELINE
                                  and self._sequence - oldest.sequence < SEQUENCES - 1)

    def _take(self):
        """Return the entries of the next request, the oldest first."""
        waiting, limits = self._waiting, self.limits
        taken: list = []
        size = batches = 0
        topic = None
        while waiting:
            entry = waiting[0]
            size += entry.size
            if entry.topic is not topic or entry.many:
                topic = entry.topic
                size += BATCH_OVERHEAD
                batches += 1 + entry.count // limits.max_batch_messages
            if taken and (size > limits.frame_bytes or batches > MAX_BATCHES):
                break
            taken.append(waiting.popleft())
        return taken

    def _request(self, entries):
        self._sequence += 1
        options = {"producer": self._name, "sequence": self._sequence}
        latest = max(entry.patience.deadline for entry in entries)
        if self._clock_ahead_s is not None and latest < 1e9:
            options["deadline_clock"] = max(latest + self._clock_ahead_s, 0.0)
        request = Append(self._channels, self, entries, join(entries, self.limits, self.server_us()), options)
        self._under_way[request] = None
        self.requests += 1
        for entry in entries:
            entry.request = request
            self.messages += entry.count
        self._channels.open(request)
        return request.size

    def frame(self, id, batches, size, options):
        """Return the parts of the ``append`` request *id* of packed *batches*, which have *size* bytes in all.

        They are sent compressed, if the server that it goes to takes that and is none the worse for it.
        """
        if self._compresses and size <= MAX_PLAIN_BYTES:
            batches = [self._channels.zstd.pack(packed) for packed in batches]
        return wire.request_head(id, "append"), _TWO, *wire.list_parts(batches), wire.pack(options)

    def server_us(self):
        """Return the server's time of day, from which a time to live counts."""
        now_s = time() if self._calendar_ahead_s is None else monotonic() + self._calendar_ahead_s
        return int(now_s * 1e6)


class Patience:
    """Until when some entries wait for their outcome: one deadline for all that were submitted together."""

    __slots__ = ("entries", "timeout_s", "deadline", "left", "_publisher")

    def __init__(self, publisher, entries, timeout_s):
        self.entries = entries
        self.timeout_s = timeout_s
        self.deadline = 0.0
        self.left = len(entries)
        self._publisher = publisher

    def expire(self):
        """Give up: the time is over."""
        self._publisher.time_out(self)

    def end(self):
        """All have their outcome."""
        self._publisher.patience_ended(self)


class Append(Request):
    """One ``append`` request and the entries that share it."""

    def __init__(self, channels, publisher, entries, batches, options):
        super().__init__(channels, "append", None, None, retry=True)
        self.entries = entries
        self.sequence = options["sequence"]
        self.size = sum(map(len, batches))
        self._batches = batches
        self._options = options
        self._publisher = publisher

    def _frame(self):
        # Packed anew when it is sent again: perhaps to another server.
        return self._publisher.frame(self.id, self._batches, self.size, self._options)

    def on_lost(self, why):
        self._options.pop("deadline_clock", None)       # by the clock of a server that is gone
        return super().on_lost(why)

    def settle(self, firsts, error):
        """Tell every caller; or, where the refusal may be one message's fault, try each alone."""
        publisher, entries = self._publisher, self.entries
        publisher.finished(self)
        if error is None and not self._fits(firsts):
            error = InternalError("The answer to 'append' is not one offset for each batch.")
        if error is None:
            for entry in entries:
                batch, start, last, stop = entry.place
                first = firsts[batch] + start
                entry.settle((first, firsts[last] + stop) if entry.many else first)
        elif len(entries) > 1 and isinstance(error, (RequestError, AccessError)) and not isinstance(error, _FOR_ALL):
            publisher.split(entries)
        else:
            for entry in entries:
                entry.settle(None, again(error))

    def _fits(self, firsts):
        return type(firsts) is list and len(firsts) == len(self._batches) and set(map(type, firsts)) == {int}


_DEFAULTS = Limits()


def _ahead_s(about, name):
    there = about.get(name) if isinstance(about, dict) else None
    return there - monotonic() if type(there) is float else None


def again(error):
    """Return an error like *error* that can be raised in another greenlet: a traceback belongs to one."""
    copy = type(error)(*error.args)
    copy.facts = dict(error.facts)
    return copy
