"""A subscription: a cursor, a bounded queue, a policy.

It is *live* while its queue continues at its cursor: then the broker offers it each
batch as it is delivered. Else it reads the log in chunks, at the pace at which its
queue is emptied, and turns live when it has reached the broker's end, with no switch
between the comparison and the turn. "From the beginning", "from now", resuming and
``spill`` are this one mechanism, so there is no seam between history and live.

Everything here runs on the broker's hub. Only ``_read`` and ``get`` wait.
"""

from collections import deque
from time import monotonic

import gevent

from .clock import now_us
from .errors import SlowConsumer, StoreError
from .expiry import EXPIRED, shown
from .queue import BoundedQueue
from .store import Gap
from .taking import Taking

_AHEAD_BYTES = 512 << 10   # read ahead of a reader: unlike live batches, what is read is nobody else's too
_ENDLESS = 1 << 62


class Subscription(Taking):
    """One reader. Made by ``Broker.subscribe``; used by iterating, or by ``take`` and ``on_ready``.

    ``cursor`` is the next offset that is to come into the queue; ``position`` the next that is
    to come out of it, and so where to resume. ``on_ready()`` is called on the hub whenever there
    may be something new to take; it must not wait.
    """

    def __init__(self, broker, id, wanted, policy, max_messages, max_bytes, *,
                 cursor, until=None, live=False, trims=0, backlog=(), block_timeout_s=5.0, name=None):
        super().__init__()
        self.id = id
        self.wanted = wanted
        self.policy = policy
        self.queue = BoundedQueue(max_messages, max_bytes)
        self.start = cursor
        self.cursor = cursor
        self.until = _ENDLESS if until is None else until
        self.live = live
        self.name = name
        self.skips_expired = True   # a consumer decides for itself
        self.headers_only = False
        self.dropped = self.conflated = self.delivered = self.filtered = 0
        self.block_timeout_s = block_timeout_s
        self._broker = broker
        self._trims = trims
        self._backlog = deque(backlog)
        self._reading = False
        self._closed = False
        self._joined = live         # has been live once: from then on it may hold publishers
        self._holds = deque()
        self._hold_timer = None
        self._messages = deque()
        self._parts = deque()       # the rest of a batch of which some has expired

    # --- the broker's side -------------------------------------------------------------

    @property
    def offered(self):
        """Who is offered what this one is to get."""
        return self

    def begin(self):
        """Start reading, unless live already (the broker calls this once, when it has filed the subscription)."""
        if not self.live:
            self._refill()

    def offer(self, batch):
        """Take *batch* if there is room; never wait. Return whether its publisher must be held.

        The broker calls this for every subscription of a topic, so one full queue must not
        hold up the others. What a full queue does is the policy's business.
        """
        if not self.live:
            return (self.policy.holds_publisher and self._joined
                    and self.cursor < batch.next and batch.first < self.until and not self.ended)
        next = batch.next
        if batch.first < self.cursor or next > self.until:
            batch = self._cut(batch)
            if batch is None:
                return False
            next = batch.next
        if self.queue.put_if_room(batch):
            self.cursor = next
        else:
            self._overflow(batch)
        self._wake()
        return not self.live and self.policy.holds_publisher and not self.ended

    def hold(self, offset, release):
        """Call *release* once the queue has taken everything below *offset*, or the subscription has ended."""
        if self._closed or self.cursor >= min(offset, self.until):
            release()       # a reader that takes in its own `on_ready` may have been quicker
            return
        self._holds.append((min(offset, self.until), monotonic() + self.block_timeout_s, release))
        if self._hold_timer is None:
            self._hold_timer = gevent.spawn_later(self.block_timeout_s, self._check_holds)

    def reach(self, next):
        """Learn that the log has grown to *next*: a bounded subscription may be complete."""
        if self.live and next >= self.until:
            self.cursor = self.until
            self._wake()

    def lapse(self):
        """Leave the live feed, which lacks what comes next: the log tells what of it is left."""
        if self.live and not self._closed:
            self.cursor = max(self.cursor, min(self._broker.next, self.until))
            self.live = False
            self._refill()

    def _cut(self, batch):
        start = max(self.cursor - batch.first, 0)
        stop = min(self.until - batch.first, batch.count)
        return batch.slice(start, stop) if start < stop else None

    def _overflow(self, batch):
        taken = 0 if self.queue and self.policy.leaves_in_log else self.queue.room_for(batch)
        if taken:
            self.force(batch.slice(0, taken))
        if taken == batch.count:
            return
        rest = batch.slice(taken, batch.count)
        try:
            self.policy.on_full(self, rest)
            if self.live and not self.ended and self.cursor < rest.next:
                raise RuntimeError(f"policy {self.policy.name!r} neither took nor left the batch")
        except Exception as error:      # a user's policy must not tear the fan-out of the others
            self.live = False           # it did not get past *rest*: that is where to resume
            self.end(self._broker.report(error))

    def _wake(self):
        try:
            self.on_ready()
        except Exception as error:      # the reader's own callback must not tear the fan-out of the others
            self._broker.report(error)

    # --- what a policy may do -------------------------------------------------------------

    def fall_behind(self, batch):
        """Leave the live feed before *batch*; it will be read from the log."""
        self.live = False
        self.cursor = batch.first
        self._refill()

    def skip(self, batch, why):
        """Pass over *batch*; a gap in the queue says so."""
        self.queue.put_gap(Gap(batch.first, batch.next, batch.count, why))
        self.cursor = batch.next
        self.dropped += batch.count

    def force(self, batch):
        """Put *batch* whether it fits or not; making room is then the policy's duty."""
        self.queue.put(batch)
        self.cursor = batch.next

    def end(self, error=None):
        """End the subscription: free all that it holds. *error* (or None) is told to the reader."""
        if self._closed:
            return
        position = self._next_to_take
        self._closed = True
        self.live = False
        if error is not None:
            error.facts.setdefault("resume", position)
            self.error = error
        self.cursor = position
        self.queue.clear()
        self._parts.clear()
        self._backlog.clear()
        self._broker.remove(self)
        self._release_holds(_ENDLESS)
        if self._hold_timer is not None:
            self._hold_timer.kill(block=False)
        self._wake()

    # --- the reader's side -------------------------------------------------------------------

    @property
    def ended(self):
        """Whether nothing more will come: ended, or ``until`` is reached and the queue is empty."""
        return self._closed or (self.cursor >= self.until
                                and not (self.queue or self._backlog or self._parts))

    @property
    def position(self):
        """The offset to resume from: everything below it was taken, or is not for this reader."""
        return self._messages[0].offset if self._messages else self._next_to_take

    @property
    def _next_to_take(self):
        first = self._parts[0].first if self._parts else self.queue.first
        if first is None and self._backlog:
            first = self._backlog[0].first
        if first is not None:
            return first
        return max(self.cursor, min(self._broker.next, self.until)) if self.live else self.cursor

    @property
    def trims(self):
        """The trim mark up to which it has told of what it missed."""
        return self._trims

    @property
    def is_bounded(self):
        """Whether it ends at an offset."""
        return self.until < _ENDLESS

    @property
    def state(self):
        """``live``, ``replaying`` or ``ended``."""
        return "ended" if self._closed else "live" if self.live else "replaying"

    def describe(self):
        """Return what an operator wants to know, as a plain map; ``lag`` is in offsets."""
        position = self.position
        return {"id": self.id, "name": self.name, "patterns": list(self.wanted.patterns), "state": self.state,
                "policy": self.policy.name, "position": position, "lag": max(self._broker.next - position, 0),
                "queued_messages": self.queue.messages, "queued_bytes": self.queue.bytes,
                "delivered": self.delivered, "dropped": self.dropped, "conflated": self.conflated,
                "filtered": self.filtered, "holding": len(self._holds)}

    def take(self):
        """Return the next batch or gap, None if there is nothing now; never wait."""
        item = self._parts.popleft() if self._parts else self.queue.get()
        if item is not None and not isinstance(item, Gap) and item.has_expiry and self.skips_expired:
            item, *parts = shown(item, now_us())
            self._parts.extendleft(reversed(parts))
        if item is not None and not isinstance(item, Gap):
            self.delivered += item.count
            if self._broker.receipts.watched:
                self._broker.receipts.taken(self.id, item)
        if not self.live and not self._reading and not self._closed:
            self._refill()
        return item

    def __next__(self):
        """Return the next :class:`Message` or :class:`Gap`."""
        if not self._messages:
            item = self.get()
            if item is None:
                raise StopIteration
            if isinstance(item, Gap):
                return item
            self._messages.extend(item.verified_messages())
        return self._messages.popleft()

    # --- reading the log ---------------------------------------------------------------------

    def _refill(self):
        """Bring more into the queue, from memory if the broker still has it, else from the log."""
        while self._backlog and self.queue.room_for(self._backlog[0]):
            self.queue.put(self._backlog.popleft())
        if self._reading or self._closed or self._backlog or not self.queue.is_low(_AHEAD_BYTES):
            return
        self._join_tail()
        if not self.live and self.queue.is_low(_AHEAD_BYTES) and self.cursor < self.until:
            self._reading = True
            gevent.spawn(self._read)

    def _join_tail(self):
        """Take what the broker still has in memory; turn live if that is all there is."""
        tail = self._broker.tail_from(self.cursor)
        if tail is None:
            return
        if self._fill(batch for batch in tail if batch.topic in self.wanted):
            self._turn_live()

    def _fill(self, batches):
        """Put what fits of *batches* and move the cursor along; return whether all of it did."""
        for batch in batches:
            if batch.first < self.cursor or batch.next > self.until:
                batch = self._cut(batch)
                if batch is None:
                    continue
            if batch.has_expiry and self._is_over(batch):
                continue
            if self.queue.put_if_room(batch):
                self.cursor = batch.next
                continue
            if self.queue:
                return False        # a part would fit: making it costs more than to come again
            taken = self.queue.room_for(batch)
            self.force(batch.slice(0, taken))
            if taken < batch.count:
                return False
        return True

    def _is_over(self, batch):
        """Pass over *batch* if all of it has expired, and return whether it has: many such are one gap."""
        over = self.skips_expired and all(isinstance(part, Gap) for part in shown(batch, now_us()))
        if over:
            self.queue.put_gap(Gap(batch.first, batch.next, batch.count, EXPIRED))
            self.cursor = batch.next
        return over

    def _turn_live(self):
        self.cursor = max(self.cursor, min(self._broker.next, self.until))
        self.live = self._joined = True
        self._release_holds(self.cursor)

    def _read(self):
        """Read one chunk of the log into the queue (in a greenlet of its own)."""
        queue = self.queue
        start = self.cursor
        end = self._broker.next     # the snapshot that is read holds at least this much
        try:
            chunk = self._broker.store.read(
                start, self.wanted, self.until, max(queue.max_messages - queue.messages, 1),
                max(min(queue.max_bytes, _AHEAD_BYTES) - queue.bytes, 1), self._trims)
        except StoreError as error:
            self.end(error)
            return
        except Exception as error:      # whatever it is, the reader must hear of it
            self.end(self._broker.report(error))
            return
        finally:
            self._reading = False
        if self._closed:
            return
        try:
            self._take_in(chunk, start, end)
        except Exception as error:      # a batch may be damaged so that it cannot be cut
            self.end(self._broker.report(error))
            return
        self._release_holds(self.cursor)    # what did not fit is read again when there is room
        self._wake()

    def _take_in(self, chunk, start, end):
        """Put into the queue what was read from *start* on, when the log's end was *end*."""
        if chunk.gap is not None:
            self.queue.put_gap(chunk.gap if chunk.gap.next <= self.until else
                          Gap(chunk.gap.first, self.until, None, chunk.gap.why))
        self._trims = chunk.trims
        if self._fill(chunk.batches):
            found = chunk.next if chunk.next > start else end
            self.cursor = max(self.cursor, min(found, self.until))
            if self.cursor >= self._broker.next:
                self._turn_live()
            else:
                self._refill()

    # --- holding publishers ------------------------------------------------------------------

    def _release_holds(self, below):
        while self._holds and self._holds[0][0] <= below:
            self._holds.popleft()[2]()

    def _check_holds(self):
        self._hold_timer = None
        if not self._holds:
            return
        wait = self._holds[0][1] - monotonic()
        if wait > 0:
            self._hold_timer = gevent.spawn_later(wait, self._check_holds)
        else:
            self.end(SlowConsumer(f"No room for {self.block_timeout_s} s while publishers waited. Read faster, ask "
                                  "for a larger queue or block_timeout_s, or choose the policy 'spill'."))
