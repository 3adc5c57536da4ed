"""What reads a stream: one run of items over however many connections. Subscriptions and consumptions share it.

Whatever is wrong with a connection (a lost item, a stream that stops, silence) has one
answer: subscribe again, with what :meth:`Reader._request` says then.
"""

import weakref
from functools import partial
from time import monotonic

import gevent
from gevent.lock import RLock
from msgpack import ExtType

from ..errors import (
    ConnectionLost,
    EpochMismatch,
    GapError,
    InvalidBatch,
    Moved,
    RequestTimeout,
    ServerDraining,
    SlowConsumer,
    StoreClosed,
    StoreCorrupt,
    SubscriberSilent,
)
from ..message import Batch
from .calls import Call
from .stream import Closed, Done, Stream
from .timing import Backoff

_MOST_BYTES = (90 << 20) + (1 << 16)       # the largest batch that any server may be set to take
_AWAY_S = 3.0               # after so long without a word from where it was sent, it comes back
_MOST_ASTRAY = 3            # times in a row that it is sent elsewhere in vain, then it wants to stay
_GOODBYE_S = 2.0            # the longest that close() waits for the server
_RESUMABLE = (SlowConsumer, SubscriberSilent, ServerDraining, StoreClosed)


class Reader:
    """Base: opens the stream, keeps the count of its items, and opens it again.

    What it reads has ``_request`` (what to subscribe to now), ``_take_parts`` (an item that is no
    control), ``_take_control``, ``_drop`` (what was read and not handed out), ``_facts`` and ``_step``.
    """

    def __init__(self, channels, *, reconnect=True, on_gap=None, on_control=None, on_ready=None):
        self.id = None
        self.epoch = None
        self.gaps = self.resumed = 0
        self._channels = self._home = channels     # where it reads now, and where it goes when that ends
        self._stays = False         # at home: it could not be read elsewhere
        self._is_greeted = False    # where it reads now
        self._astray = 0            # how often it was sent elsewhere in vain
        self._reconnect = reconnect
        self._on_gap, self._on_control = on_gap, on_control
        self._on_ready = on_ready   # of each stream
        self._loop = gevent.get_hub().loop
        self._lock = RLock()
        self._lock_held = _Held(self._lock)
        self._backoff = Backoff()
        self._broken = set()        # offsets of batches that did not fit their checksums
        self._number = 0            # of the item that must come next
        self._stream = None
        self._outcome = None        # once it has ended: None or the error, in a tuple
        self._open(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        stream = getattr(self, "_stream", None)
        if stream is not None and stream.ended is None:
            self._loop.run_callback_threadsafe(self._farewell(stream))      # the collector may run in any thread

    def close(self):
        """End the stream, from any greenlet: a loop over it ends. Waits for the server at most 2 s."""
        if self._outcome is None:
            self._outcome = (None,)
        stream, self._stream = self._stream, None
        self._drop()
        if stream is None or stream.ended is not None:
            return
        stream.drop()
        call = self._unsubscribe(self._channels, self.id)
        if call is not None and gevent.getcurrent() is not gevent.get_hub():
            try:
                call.future.get()
            except ConnectionLost:
                pass        # then the server finds out by itself

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
                raise RequestTimeout(f"No answer to the subscribe from {self._channels.server} within {timeout_s} s.",
                                     timeout_s=timeout_s) from None
            raise

    def watch(self, on_ready):
        """Call ``on_ready()`` whenever there may be something to take, or the end; it must not wait."""
        self._on_ready = on_ready
        if self._stream is not None:
            self._stream.watch(on_ready)

    # --- items -------------------------------------------------------------------------

    def _reading(self, deadline):
        """Let one greenlet at a time wait for items (in a ``with``); the others wait for it, until *deadline*."""
        self._channels.check_owner()
        if not self._lock.acquire(timeout=remaining_s(deadline)):
            raise RequestTimeout("No message came in time.")
        return self._lock_held

    def _take_item(self, stream, item):
        control = item if type(item) is dict else None
        if control is not None and control.get("control") == "moved":
            self._move(stream, control)
            return
        number = control.get("n") if control is not None else item[0] if type(item) is list and item else None
        if number != self._number or (number == 0) != (control is not None and control.get("control") == "subscribed"):
            self._lose(stream, f"item {self._number} did not come")
            return
        self._number += 1
        if control is not None:
            self._take_control(control)
            return
        try:
            self._take_parts(item[1:])
        except (StoreCorrupt, InvalidBatch, TypeError) as error:      # struct wants bytes
            self._distrust(stream, error)

    def _batch_of(self, part):
        """Return the batch that a part of an item is, verified. Raises StoreCorrupt, InvalidBatch, TypeError."""
        if type(part) is ExtType and self._channels.zstd is not None:
            part, _ = self._channels.zstd.unpack(part, _MOST_BYTES)
        batch = Batch.parse(part)
        if self._channels.verify and not batch.is_sound:
            self._meet_damage(batch)
        return batch

    def _meet_damage(self, batch):
        batch.verify()      # raises

    def _distrust(self, stream, error):
        """Have what came broken sent again; what comes broken twice is so in the store: end, and say where."""
        facts = getattr(error, "facts", {})     # a TypeError has none
        offset, next = facts.get("offset"), facts.get("next")
        if offset is None or offset not in self._broken:
            self._broken.add(offset)
            self._lose(stream, f"an item is not made of batches ({error})")
            return
        self._finish(StoreCorrupt(f"The messages in [{offset}, {next}) do not fit their checksum, also when sent "
                                  f"again. The server's store is damaged. What comes from {next} on can be read.",
                                  offset=offset, next=next, **self._facts()))

    def _greet(self, greeting):
        """Take the server's greeting; return False if it is of another log."""
        if self.epoch is not None and greeting.get("epoch") != self.epoch:
            if self._is_away:
                self._lose(self._stream, "what is there is another server's")
                return False
            self._finish(EpochMismatch(f"The server's log is now {greeting.get('epoch')!r:.60}, not {self.epoch!r}: "
                                       "offsets of the one mean nothing in the other. Subscribe anew.",
                                       epoch=greeting.get("epoch"), **self._facts()))
            return False
        self.id, self.epoch = greeting.get("id"), greeting.get("epoch")
        self._channels.learn_heartbeat(greeting.get("heartbeat_s"))
        self._backoff.reset()
        self._is_greeted, self._astray = True, 0
        self._stays = self._stays and self._is_away
        return True

    def _tell_gap(self, gap):
        first, next, count, why = (gap.get(name) for name in ("first", "next", "count", "why"))
        self.gaps += 1
        if self._on_gap is not None:
            self._on_gap(gap)
            return
        lost = "some" if count is None else count
        raise GapError(f"{lost} messages in [{first}, {next}) will not come ({why}). Go on reading to pass over them.",
                       first=first, next=next, count=count, why=why)

    # --- beginnings --------------------------------------------------------------------

    def _open(self, delay_s):
        self._number, self._is_greeted = 0, False
        stream = self._stream = Stream(self._channels, self._request(), self._on_ready,
                                       _AWAY_S if self._is_away else None)
        if self._is_away:
            self._channels.expire(stream)
        self._channels.open(stream, delay_s)

    # --- where it reads ------------------------------------------------------------------

    @property
    def _is_away(self):
        """Whether it reads, or is about to, where the server has sent it."""
        return self._channels is not self._home

    @property
    def _is_movable(self):
        """Whether the server may send it elsewhere, when it is opened now or later."""
        elsewhere = self._home.elsewhere
        return not self._stays and elsewhere is not None and elsewhere.is_possible

    def _move(self, stream, moved):
        """Go where the server says, or ask again with the wish to stay."""
        stream.drop()
        address = self._home.elsewhere.place_in(moved.get("endpoints"))
        self._stays = address is None
        if address is not None:
            self._channels = self._home.elsewhere.channels_at(address)
        self._open(0)

    def _come_back(self, address, ended, refused):
        """It was not served at *address*, to which it was sent: ask again, with the wish to stay if that will last."""
        expired = isinstance(ended, RequestTimeout)
        if expired:
            self._home.elsewhere.failed(address)
        self._astray += 1
        self._stays = (expired or self._astray >= _MOST_ASTRAY
                       or (refused and not isinstance(ended, _RESUMABLE)))
        self._open(0 if self._stays else self._backoff.pause_s())

    # --- ends ----------------------------------------------------------------------------

    def _take_end(self, ended, refused):
        if self._outcome is not None:
            return      # it was closed meanwhile
        if self._is_away and ended is not Closed and ended is not Done:
            away, self._channels = self._channels, self._home
            if not self._is_greeted:
                self._come_back(away.address, ended, refused)
                return
        if ended is Closed or ended is Done:
            self._finish(None)
        elif isinstance(ended, Moved) or (self._reconnect and (isinstance(ended, _RESUMABLE) or not refused)):
            self._resume()
        else:
            ended.facts.update(self._facts())
            self._finish(ended)

    def _lose(self, stream, why):
        """Give up a stream that cannot be trusted any more, and go on with another."""
        lost = ConnectionLost(f"The stream is broken: {why}.")
        stream.drop(lost)
        self._unsubscribe(self._channels, self.id)
        self._take_end(lost, False)     # also if its end has come already: what is before that is not read

    def _resume(self):
        self.resumed += self.id is not None
        self._open(self._backoff.pause_s())

    def _finish(self, error):
        stream, self._stream = self._stream, None
        if self._outcome is None:
            self._outcome = (error,)
        if stream is not None and stream.ended is None:
            stream.drop()
            self._unsubscribe(self._channels, self.id)

    def _farewell(self, stream):
        """Return a function that ends *stream* when this is no more."""
        return partial(_let_go, self._unsubscribe, self._channels, stream, self.id)

    @staticmethod
    def _unsubscribe(channels, id):
        """Tell the server, if it can be told now; return the call."""
        if id is None or not channels.can_send:
            return None
        call = Call(channels, "unsubscribe", (id,), _GOODBYE_S, retry=False)
        channels.expire(call)
        channels.open(call)
        return call

    # --- what each kind of reader says for itself -----------------------------------------

    def _request(self):
        """Return the arguments of the ``subscribe`` that opens the stream, or opens it again."""
        raise NotImplementedError

    def _take_parts(self, parts):
        """Take what an item carries. Raises StoreCorrupt or TypeError if it makes no sense."""
        raise NotImplementedError

    def _take_control(self, control):
        raise NotImplementedError

    def _drop(self):
        """Forget what was read and not handed out."""
        raise NotImplementedError

    def _facts(self):
        """Return what an error that ends it says of where it was."""
        return {}

    def _step(self, deadline):
        """Go one step on, waiting for what comes until *deadline*. Raises RequestTimeout."""
        raise NotImplementedError


class _Held:
    """Releases *lock*, which is held, at the end of a ``with``; made once, for it is used for each batch."""

    def __init__(self, lock):
        self._release = lock.release

    def __enter__(self):
        pass

    def __exit__(self, *_):
        self._release()


def remaining_s(deadline):
    """Return the seconds until *deadline*, None if there is none."""
    return None if deadline is None else max(deadline - monotonic(), 0)


def weakly(method):
    """Return a function that calls *method* while its object lives, and does not keep it alive."""
    reference = weakref.WeakMethod(method)

    def call():
        method = reference()
        if method is not None:
            method()
    return call


def _let_go(unsubscribe, channels, stream, id):
    if stream.ended is None:
        stream.drop()
        unsubscribe(channels, id)
