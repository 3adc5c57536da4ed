"""One request and its one answer, as a channel."""

from gevent.event import AsyncResult

from .. import wire
from ..errors import (
    ConnectionLost,
    InvalidPayload,
    Overloaded,
    RequestError,
    RequestTimeout,
    ServerDraining,
    ZStreamPubError,
    by_name,
)


class Request:
    """What waits for ``OK`` or ``ERR``; :meth:`settle` takes it.

    With *retry* it is sent again on the next connection if this one is lost, and if the
    server answers that it is about to stop; so it must be a request that may run twice.
    """

    def __init__(self, channels, method, args, timeout_s, retry):
        self.id = channels.new_id()
        self.timeout_s = timeout_s
        self._channels = channels
        self._method = method
        self._args = args
        self._retry = retry
        self._sent = False

    def frames(self):
        """Return what opens the channel: frames, each a tuple of its parts."""
        self._sent = True
        return (self._frame(),)

    def _frame(self):
        return (wire.request(self.id, self._method, self._args),)

    def settle(self, value, error):
        """Take the outcome; called once."""
        raise NotImplementedError

    def on_event(self, name, args):
        """Take an event of this channel; it must come from the server."""
        if name == wire.OK:
            self._end(args[0] if type(args) is list and args else None, None)
        elif name == wire.ERR:
            error = error_of(args)
            if isinstance(error, (ServerDraining, Overloaded)) and self._retry:
                self._channels.send_later(self)
            else:
                self._end(None, error)
        elif name in (wire.STREAM, wire.STREAM_DONE):
            self._end(None, RequestError(f"{self._method!r} answers with a stream; a call takes one value."))

    def on_lost(self, why):
        """Take note that the connection is gone; return whether to send the request again on the next one."""
        if self._retry or not self._sent:
            return True
        self._end(None, ConnectionLost(f"The answer to {self._method!r} was lost: {why}. It may or may not have run."))
        return False

    def on_closed(self, error):
        """Take note that nothing will ever come."""
        self._end(None, error)

    def expire(self):
        """Give up: the time is over."""
        reached = "No answer from" if self._sent else "No connection to"
        text = f"{reached} {self._channels.server} within {self.timeout_s} s for {self._method!r}."
        self._end(None, RequestTimeout(text, timeout_s=self.timeout_s))

    def _end(self, value, error):
        self._channels.forget(self)
        self.settle(value, error)


class Call(Request):
    """A request of one caller, who waits for ``future``."""

    def __init__(self, channels, method, args, timeout_s, retry):
        super().__init__(channels, method, args, timeout_s, retry)
        self.future = AsyncResult()

    def check(self):
        """Raise InvalidPayload unless the arguments can be sent; return self."""
        try:
            wire.pack((self._method, self._args))
        except Exception as error:      # TypeError, OverflowError, UnicodeError, ValueError, RecursionError
            raise InvalidPayload(f"The arguments of {self._method!r} cannot be carried as msgpack: {error}.") from error
        return self

    def ask(self):
        """Send it and wait for the answer; return that, or raise its error."""
        self.check()
        self._channels.expire(self)
        self._channels.open(self)
        try:
            return self.future.get()
        finally:
            self._channels.forget(self)     # whoever waited may have been killed

    def settle(self, value, error):
        if error is None:
            self.future.set(value)
        else:
            self.future.set_exception(error)


def error_of(args):
    """Return the exception that an ``ERR`` event stands for; a name that nobody knows still says its name."""
    name, message = "InternalError", "The server's error has no name."
    if type(args) is list and len(args) >= 2:
        name, message = str(args[0]), str(args[1])
    kind = by_name(name)
    if kind is None:
        return ZStreamPubError(f"{name}: {message}", name=name)
    return kind(message)
