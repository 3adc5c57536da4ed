"""The channel of one subscription on one connection: items in, credit and heartbeats out. It decides nothing."""

from collections import deque
from time import monotonic

from gevent.event import Event
from msgpack import ExtType

from .. import wire
from ..errors import ConnectionLost, RequestTimeout
from .calls import error_of

WINDOW = 32                     # items that the server may have under way to us
_GRANT_ITEMS = WINDOW // 4
_GRANT_BYTES = 256 * 1024
_MOST_ITEMS = WINDOW + 3        # the greeting's credit, and the two events of an end


_BATCHES = frozenset((bytes, ExtType))     # plain, compressed
NOTHING = object()      # no item; any value may be an item


class Done:
    """How a stream ended: normally."""


class Closed:
    """How a stream ended: this side closed it."""


class Stream:
    """Opened with *args* by ``channels.open``; ends once, and then ``ended`` says how.

    ``ended`` is None, ``Done``, ``Closed``, a ConnectionLost, or the error that the server
    gave as ``refusal``. Items that came before the end are still there to be taken.
    ``on_ready()`` is called when there is an item or the end; it must not wait.
    """

    def __init__(self, channels, args, on_ready=None, timeout_s=None):
        self.id = channels.new_id()
        self.timeout_s = timeout_s  # for the first event, None: for ever
        self.ended = None
        self.refused = False        # whether `ended` is the server's word
        self.heard_at = 0.0
        self.not_before = 0.0
        self._channels = channels
        self._args = args
        self._items = deque()
        self._ready = Event()
        self._on_ready = on_ready
        self._taken_bytes = None    # of the item that is being consumed
        self._unused = 0            # items that were received and not given back
        self._owed_items = self._owed_bytes = 0

    # --- the reader's side -------------------------------------------------------------

    def take(self):
        """Return the next item or NOTHING; the one before is consumed by that, and its credit goes back."""
        if self._taken_bytes is not None:
            self.give_back(self._taken_bytes)
            self._taken_bytes = None
        item = self.receive()
        if item is not NOTHING:
            self._taken_bytes = size_of(item)
        return item

    def receive(self):
        """Return the next item or NOTHING; whoever has used it says so by :meth:`give_back`."""
        if not self._items:
            return NOTHING
        self._unused += 1
        return self._items.popleft()

    def give_back(self, size):
        """Return the credit for an item of *size* to the server."""
        self._unused -= 1
        self._owed_items += 1
        self._owed_bytes += size
        if self._owed_items >= _GRANT_ITEMS or self._owed_bytes >= _GRANT_BYTES:
            self._channels.send(self, wire.MORE, (self._owed_items,))
            self._owed_items = self._owed_bytes = 0

    def wait(self, timeout_s=None):
        """Wait until there is an item or the end; return whether there is."""
        if self._items or self.ended is not None:
            return True
        self._ready.clear()
        return self._ready.wait(timeout_s)

    def watch(self, on_ready):
        """Call *on_ready* from now on, and no other."""
        self._on_ready = on_ready

    def drop(self, ended=Closed):
        """End it from this side, without a word to the server."""
        self._channels.forget(self)
        self._items.clear()
        self._end(ended)

    # --- the channel's side -------------------------------------------------------------

    def frames(self):
        """Return what opens the channel: the request, and at once the credit."""
        self.heard_at = monotonic()
        self._channels.beat(self)
        return ((wire.request(self.id, "subscribe", self._args),),
                (wire.answer(self.id, self._channels.new_id(), wire.MORE, wire.pack((WINDOW,))),))

    def expire(self):
        """Give up: nothing has come within ``timeout_s``."""
        self._finish(RequestTimeout(f"Nothing was heard of {self._channels.server} within {self.timeout_s} s."))

    def on_event(self, name, args):
        """Take an event from the server."""
        if self.timeout_s is not None:
            self._channels.deadlines.discard(self)
        self.heard_at = monotonic()
        if name == wire.STREAM:
            self._items.append(args)
            if len(self._items) + self._unused > _MOST_ITEMS:
                self._finish(ConnectionLost("The server sent more than it had credit for."))
            self._tell()
        elif name == wire.STREAM_DONE:
            self._finish(Done)
        elif name == wire.ERR:
            self.refused = True
            self._finish(error_of(args))
        elif name == wire.OK:
            self._finish(ConnectionLost("The server answered 'subscribe' with no stream."))

    def on_lost(self, why):
        """Take note that the connection is gone; return whether to open this on the next one."""
        if not self.heard_at:
            return True
        self._finish(ConnectionLost(f"The stream was lost: {why}."))
        return False

    def on_closed(self, _):
        """Take note that the client was closed."""
        self._finish(Closed)

    def _finish(self, ended):
        self._channels.forget(self)
        self._end(ended)

    def _end(self, ended):
        if self.ended is None:
            self.ended = ended
        self._tell()

    def _tell(self):
        self._ready.set()
        if self._on_ready is not None:
            self._on_ready()


def size_of(item):
    """Return the bytes of what an item carries."""
    if type(item) is not list:
        return 0
    return sum(len(part) if type(part) is bytes else len(part.data) for part in item[1:]
               if type(part) in _BATCHES)
