"""A subscription as its reader sees it: one run of messages over however many connections.

Rules: ``offset`` is where to resume, moves only when something is handed out or is known
not to come, and never steps back. A stream that is resumed may begin below it; what is
below is dropped. Everything is decided in the reader's greenlet, in the order of the items.
"""

from collections import deque
from operator import length_hint
from time import monotonic

from ..errors import RequestTimeout, SubscriptionEnded
from .reader import Reader, remaining_s
from .stream import NOTHING


class Subscription(Reader):
    """Iterate to get messages; made by ``Client.subscribe``.

    ``offset`` is the next offset after the last message handed out, ``id`` and ``epoch``
    are the server's, ``gaps`` counts the gaps that were told and ``conflated`` the messages that
    the policy ``conflate`` left out. Several greenlets may read: each message goes to one of them.
    """

    def __init__(self, channels, patterns, options, *, reconnect=True, on_gap=None, on_control=None):
        self.conflated = 0
        self._patterns = patterns
        self._options = options
        self._offset = None
        self._message = None        # the last one handed out
        self._decoded: list = []    # the messages of the batch that is being handed out
        self._messages = iter(self._decoded)    # the rest of them
        self._batch = None          # that batch
        self._batches = deque()     # the rest of the item that it came in
        super().__init__(channels, reconnect=reconnect, on_gap=on_gap, on_control=on_control)

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
                raise self._ended()

    def get_batch(self, timeout_s=None):
        """Return the next batch whole, as :meth:`batches` does; else like :meth:`get`."""
        with self._reading(deadline := None if timeout_s is None else monotonic() + timeout_s):
            batch = self._rest_of_batch() or self._next_batch(deadline)
            if batch is None:
                raise self._ended()
            self._offset = batch.next
            return batch

    def _ended(self):
        return SubscriptionEnded(f"The subscription has ended; the next offset is {self.offset}.", resume=self.offset)

    def batches(self):
        """Iterate over whole batches of messages, the fast way; ``offset`` moves by a batch at a time."""
        while True:
            with self._reading(None):
                batch = self._rest_of_batch() or self._next_batch(None)
                if batch is None:
                    return
                self._offset = batch.next
            yield batch

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

    def _step(self, deadline):
        """Take one item, or the end of the stream; wait for it until *deadline*."""
        stream = self._stream
        item = stream.take()
        if item is not NOTHING:
            self._take_item(stream, item)
        elif stream.ended is not None:
            self._take_end(stream.ended, stream.refused)
        elif not stream.wait(remaining_s(deadline)):
            raise RequestTimeout("No message came in time.")

    def _take_parts(self, parts):
        self._batches.extend(map(self._batch_of, parts))

    def _drop(self):
        self._decoded.clear()       # a loop in another greenlet iterates over it
        self._batches.clear()

    # --- controls --------------------------------------------------------------------

    def _take_control(self, control):
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
        if not super()._greet(greeting):
            return False
        if self._offset is None:
            # Only at first: later, the messages between our offset and the greeting's may have been
            # trimmed, and it is the gap that follows which may move us.
            self._offset = 0
            self._reach(greeting.get("offset"))
        return True

    def _pass_gap(self, gap):
        first, next, count, why = (gap.get(name) for name in ("first", "next", "count", "why"))
        if type(next) is not int or next < self._offset:
            return
        # Not to its end: retention and conflate leave some messages of the range, and they still come.
        self._reach(first)
        if why == "conflate":
            self.conflated += count if type(count) is int else 0
            return
        self._tell_gap(gap)

    def _reach(self, offset):
        if type(offset) is int and offset > self._offset:
            self._offset = offset

    # --- ends and beginnings -----------------------------------------------------------

    def _move(self, stream, moved):
        if self._offset is None and type(moved.get("offset")) is int:   # it begins there, wherever it is read
            self._offset, self.epoch = moved["offset"], moved.get("epoch")
        super()._move(stream, moved)

    def _request(self):
        options = dict(self._options, **self._channels.format)
        if self._is_movable:
            options["movable"] = True
        if self._offset is not None:
            options.update(start=self._offset, epoch=self.epoch)
        return self._patterns, options

    def _facts(self):
        return {"resume": self._offset}
