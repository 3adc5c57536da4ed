"""A subscription as its reader sees it: one run of messages over however many connections.

Rules: ``offset`` is where to resume, moves only when something is handed out or is known
not to come, and never steps back. Whatever is wrong with a connection (a lost item, a
stream that stops, silence) has one answer: subscribe again at ``offset``, and drop what
is below it. Everything is decided in the reader's greenlet, in the order of the items.
"""

from collections import deque
from contextlib import contextmanager
from operator import length_hint
from time import monotonic

import gevent
from gevent.lock import RLock

from ..errors import (
    ConnectionLost,
    EpochMismatch,
    GapError,
    RequestTimeout,
    ServerDraining,
    SlowConsumer,
    StoreClosed,
    StoreCorrupt,
    SubscriberSilent,
    SubscriptionEnded,
)
from ..message import Batch
from .calls import Call
from .stream import NOTHING, Closed, Done, Stream
from .timing import Backoff

_GOODBYE_S = 2.0            # the longest that close() waits for the server
_RESUMABLE = (SlowConsumer, SubscriberSilent, ServerDraining, StoreClosed)


class Subscription:
    """Iterate to get messages; made by ``Client.subscribe``.

    ``offset`` is the next offset after the last message handed out, ``id`` and ``epoch``
    are the server's, ``gaps`` counts the gaps that were told and ``conflated`` the messages that
    the policy ``conflate`` left out. Several greenlets may read: each message goes to one of them.
    """

    def __init__(self, channels, patterns, options, *, reconnect=True, on_gap=None, on_control=None):
        self.id = None
        self.epoch = None
        self.gaps = self.conflated = self.resumed = 0
        self._channels = channels
        self._patterns = patterns
        self._options = options
        self._reconnect = reconnect
        self._on_gap, self._on_control = on_gap, on_control
        self._loop = gevent.get_hub().loop
        self._lock = RLock()
        self._backoff = Backoff()
        self._offset = None
        self._message = None        # the last one handed out
        self._decoded: list = []    # the messages of the batch that is being handed out
        self._messages = iter(self._decoded)    # the rest of them
        self._batch = None          # that batch
        self._batches = deque()     # the rest of the item that it came in
        self._number = 0            # of the item that must come next
        self._stream = None
        self._outcome = None        # once it has ended: None or the error, in a tuple
        self._open(0)

    # --- reading ---------------------------------------------------------------------

    @property
    def offset(self):
        """Where to resume: all messages below were handed out, or are not for this subscription."""
        message = self._message
        if message is not None and message.offset >= self._offset:
            return message.offset + 1
        return self._offset

    def __iter__(self):
        """Iterate over messages; a loop that was left goes on where it was left."""
        while True:
            for message in self._messages:
                self._message = message
                yield message
            if not self._load():
                return

    def __next__(self):
        for message in self._messages:
            self._message = message
            return message
        if not self._load():
            raise StopIteration
        return next(self)

    def get(self, timeout_s=None):
        """Return the next message. Raises RequestTimeout, and SubscriptionEnded after the last one."""
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while True:
            for message in self._messages:
                self._message = message
                return message
            if not self._load(deadline):
                raise SubscriptionEnded(f"The subscription has ended; the next offset is {self.offset}.",
                                        resume=self.offset)

    def batches(self):
        """Iterate over whole batches of messages, the fast way; ``offset`` moves by a batch at a time."""
        while True:
            with self._reading(None):
                batch = self._rest_of_batch() or self._next_batch(None)
                if batch is None:
                    return
                self._offset = batch.next
            yield batch

    def close(self):
        """End the subscription, from any greenlet: a loop over it ends. Waits for the server at most 2 s."""
        if self._outcome is None:
            self._outcome = (None,)
        stream, self._stream = self._stream, None
        self._decoded.clear()       # a loop in another greenlet iterates over it
        self._batches.clear()
        if stream is None or stream.ended is not None:
            return
        stream.drop()
        call = self._unsubscribe(self._channels, self.id)
        if call is not None and gevent.getcurrent() is not gevent.get_hub():
            try:
                call.future.get()
            except ConnectionLost:
                pass        # then the server finds out by itself

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        stream = getattr(self, "_stream", None)
        if stream is not None and stream.ended is None:
            # The collector may run in any thread.
            self._loop.run_callback_threadsafe(_let_go, self._unsubscribe, self._channels, stream, self.id)

    def wait_open(self, timeout_s):
        """Wait for the server's greeting. Raises what is wrong with the options, or RequestTimeout."""
        deadline = monotonic() + timeout_s
        try:
            while self.id is None:
                self._step(deadline)
                if self._outcome is not None:
                    raise self._outcome[0] or ConnectionLost("The client was closed.")
        except BaseException as error:
            self.close()
            if type(error) is RequestTimeout:
                raise RequestTimeout(f"The server did not answer the subscribe within {timeout_s} s.",
                                     timeout_s=timeout_s) from None
            raise

    # --- from items to batches ----------------------------------------------------------

    def _load(self, deadline=None):
        """Get the next batch ready for handing out its messages; return False at the end."""
        with self._reading(deadline):
            if length_hint(self._messages):
                return True     # another greenlet got a batch ready meanwhile
            batch = self._next_batch(deadline)
            if batch is None:
                return False
            self._batch, self._decoded = batch, batch.messages()
            self._messages = iter(self._decoded)
            return True

    def _rest_of_batch(self):
        """Return what is left of a batch that was handed out in part, None if nothing is."""
        self._decoded.clear()       # a loop over messages, in another greenlet or left, must not go on with them
        batch, self._batch = self._batch, None
        if batch is None or self.offset >= batch.next:
            return None
        return batch.slice(self.offset - batch.first, batch.count) if self.offset > batch.first else batch

    def _next_batch(self, deadline):
        """Return the next batch, cut to what was not handed out yet; None at the end. Waits until *deadline*."""
        self._offset = self.offset
        while True:
            while self._batches:
                batch = self._batches.popleft()
                if batch.first >= self._offset:
                    return batch
                if batch.next > self._offset:
                    return batch.slice(self._offset - batch.first, batch.count)
            if self._outcome is not None:
                if self._outcome[0] is not None:
                    raise self._outcome[0]
                return None
            self._step(deadline)

    @contextmanager
    def _reading(self, deadline):
        """Let one greenlet at a time take items; the others wait, until *deadline*."""
        self._channels.check_owner()
        if not self._lock.acquire(timeout=_remaining_s(deadline)):
            raise RequestTimeout("No message came in time.")
        try:
            yield
        finally:
            self._lock.release()

    def _step(self, deadline):
        """Take one item, or the end of the stream; wait for it until *deadline*."""
        stream = self._stream
        item = stream.take()
        if item is not NOTHING:
            self._take_item(stream, item)
        elif stream.ended is not None:
            self._take_end(stream.ended, stream.refused)
        elif not stream.wait(_remaining_s(deadline)):
            raise RequestTimeout("No message came in time.")

    def _take_item(self, stream, item):
        control = item if type(item) is dict else None
        number = control.get("n") if control is not None else item[0] if type(item) is list and item else None
        if number != self._number or (number == 0) != (control is not None and control.get("control") == "subscribed"):
            self._lose(stream, f"item {self._number} did not come")
            return
        self._number += 1
        if control is not None:
            self._take_control(stream, control)
            return
        try:
            self._batches.extend(map(Batch.parse, item[1:]))
        except (StoreCorrupt, TypeError) as error:      # struct wants bytes
            self._lose(stream, f"an item is not made of batches ({error})")

    # --- controls --------------------------------------------------------------------

    def _take_control(self, stream, control):
        kind = control.get("control")
        if kind == "subscribed":
            self._greet(control)
        elif kind == "gap":
            self._pass_gap(control)
            return
        elif kind == "keepalive":
            self._reach(control.get("offset"))
        elif kind == "end":
            self._reach(control.get("resume"))
        if self._on_control is not None:
            self._on_control(control)

    def _greet(self, greeting):
        if self.epoch is not None and greeting.get("epoch") != self.epoch:
            self._finish(EpochMismatch(f"The server's log is now {greeting.get('epoch')!r:.60}, not {self.epoch!r}: "
                                       "offsets of the one mean nothing in the other. Subscribe anew.",
                                       epoch=greeting.get("epoch"), resume=self.offset))
            return
        self.id, self.epoch = greeting.get("id"), greeting.get("epoch")
        if self._offset is None:
            # Only at first: later, the messages between our offset and the greeting's may have been
            # trimmed, and it is the gap that follows which may move us.
            self._offset = 0
            self._reach(greeting.get("offset"))
        self._channels.learn_heartbeat(greeting.get("heartbeat_s"))
        self._backoff.reset()

    def _pass_gap(self, gap):
        first, next, count, why = (gap.get(name) for name in ("first", "next", "count", "why"))
        if type(next) is not int or next < self._offset:
            return
        # Not to its end: retention and conflate leave some messages of the range, and they still come.
        self._reach(first)
        if why == "conflate":
            self.conflated += count if type(count) is int else 0
            return
        self.gaps += 1
        if self._on_gap is not None:
            self._on_gap(gap)
            return
        lost = "some" if count is None else count
        raise GapError(f"{lost} messages in [{first}, {next}) will not come ({why}). Go on reading to pass over them.",
                       first=first, next=next, count=count, why=why)

    def _reach(self, offset):
        if type(offset) is int and offset > self._offset:
            self._offset = offset

    # --- ends and beginnings -----------------------------------------------------------

    def _open(self, delay_s):
        options = dict(self._options, format="batch")
        if self._offset is not None:
            options.update(start=self._offset, epoch=self.epoch)
        self._number = 0
        self._stream = Stream(self._channels, (self._patterns, options))
        self._channels.open(self._stream, delay_s)

    def _take_end(self, ended, refused):
        if ended is Closed or ended is Done:
            self._finish(None)
        elif self._reconnect and (isinstance(ended, _RESUMABLE) or not refused):
            self._resume()
        else:
            ended.facts["resume"] = self._offset
            self._finish(ended)

    def _lose(self, stream, why):
        """Give up a stream that cannot be trusted any more, and go on with another."""
        stream.drop(ConnectionLost(f"The stream is broken: {why}."))
        self._unsubscribe(self._channels, self.id)
        self._take_end(stream.ended, False)

    def _resume(self):
        self.resumed += self._offset is not None
        self._open(self._backoff.pause_s())

    def _finish(self, error):
        stream, self._stream = self._stream, None
        if self._outcome is None:
            self._outcome = (error,)
        if stream is not None and stream.ended is None:
            stream.drop()
            self._unsubscribe(self._channels, self.id)

    @staticmethod
    def _unsubscribe(channels, id):
        """Tell the server, if it can be told now; return the call."""
        if id is None or not channels.can_send:
            return None
        call = Call(channels, "unsubscribe", (id,), _GOODBYE_S, retry=False)
        channels.expire(call)
        channels.open(call)
        return call


def _remaining_s(deadline):
    return None if deadline is None else max(deadline - monotonic(), 0)


def _let_go(unsubscribe, channels, stream, id):
    if stream.ended is None:
        stream.drop()
        unsubscribe(channels, id)
