"""Every method that the lane does not serve itself, run through zerorpc's own patterns and hooks.

A zerorpc pattern gets a channel; this one is ours, so nothing passes through zerorpc's
dispatcher, which one bad packet can stop for ever. What a method raises, whatever it is,
becomes an answer without a traceback.
"""

import inspect
import logging
import sys
from contextlib import suppress

import gevent
import msgpack
import zerorpc
from gevent.event import Event as Signal
from zerorpc.events import Event

from . import wire
from .channels import Channel
from .errors import InvalidPayload, LimitExceeded, UnknownMethod, ZStreamPubError
from .requests import check_arguments

logger = logging.getLogger(__name__)


class MethodCall(Channel):
    """One call, and the channel that zerorpc's pattern sees (``new_event``, ``emit_event``, ``emit``)."""

    __slots__ = ("context", "credit", "_granted", "_task")

    def __init__(self, lane, peer, id, context):
        super().__init__(lane, peer, id)
        self.context = context
        self.credit = 1
        self._granted = Signal()
        self._task = None

    def run(self, methods, header, name, args):
        """Run the method in a greenlet of its own."""
        if name == "fetch":     # if its client leaves while it waits, what comes is for others
            self.peer.members.add(self)
        event = request_event(self.peer, header, name, args)
        self._task = gevent.spawn(self._run, methods, event)

    def _run(self, methods, event):
        try:
            self.context.hook_load_task_context(event.header)
            functor = methods.get(event.name)
            if functor is None:
                raise UnknownMethod(f"There is no method {event.name!r:.80}. "
                                    "'zerorpc ADDRESS' lists what there is.")
            check_arguments(functor.signature, event.args)
            functor.pattern.process_call(self.context, self, event, functor)
        except zerorpc.LostRemote:
            logger.info("peer %s left while %s ran", self.peer.id.hex(), event.name)
        except BaseException as error:      # also SystemExit and GreenletExit: none may take the server along
            self._answer_error(event, error)
        finally:
            self.close()

    def _answer_error(self, event, error):
        if isinstance(error, ZStreamPubError):
            logger.info("%.80r refused: %s: %s", event.name, type(error).__name__, error)
        else:
            logger.error("method %.80r failed", event.name, exc_info=error)
        try:
            reply = self.new_event(wire.ERR, (type(error).__name__, str(error), None),
                                   self.context.hook_get_task_context())
            self.context.hook_server_inspect_exception(event, reply, sys.exc_info())
            blob = _pack(reply)
        except Exception as failure:    # a hook's, or that of an error that cannot even say what it is
            logger.error("the error of method %.80r cannot be told", event.name, exc_info=failure)
            text = f"The method failed with {type(error).__name__}, which cannot be told; the server's log has it."
            blob = wire.answer(self.id, self.lane.new_id(), wire.ERR, wire.error_args("InternalError", text))
        self.lane.send(self.peer, blob)

    # --- what a pattern calls ---------------------------------------------------------------

    def new_event(self, name, args, xheader=None):
        """Return an event of this channel."""
        header = {"message_id": self.lane.new_id(), "v": 3, "response_to": self.id, **(xheader or {})}
        return Event(name, args, None, header)

    def emit_event(self, event, timeout=None):
        """Send *event*; an item of a stream waits for credit. Raises LostRemote when the client has left."""
        if event.name == wire.STREAM:
            self.beats = True       # a call that streams nothing needs no reader
            while self.credit <= 0:
                self._granted.clear()
                self._granted.wait()
            self.credit -= 1
        elif self.lane.has_no_room(self.peer):
            raise LimitExceeded("This connection has too many bytes of answers unread, so this one was left out. "
                                "Read them, and ask for less at once.")
        self.lane.send(self.peer, _pack(event))
        while self.peer.unsent and event.name == wire.STREAM:
            gevent.sleep(0.005)     # its pipe is full: a slow reader
        if self.peer.channels.get(self.id) is not self:     # sending showed it: nobody else would end the method
            raise zerorpc.LostRemote("the client is gone")

    def emit(self, name, args, xheader=None, timeout=None):
        """Make and send an event."""
        self.emit_event(self.new_event(name, args, xheader), timeout)

    # --- what the lane calls ----------------------------------------------------------------

    def grant(self, count):
        self.credit = min(self.credit + count, self.lane.max_credit)
        if self.credit > 0:
            self._granted.set()

    def close(self):
        self.peer.members.discard(self)
        super().close()

    def lost(self):
        task = self._task
        if task is not None and task is not gevent.getcurrent():
            has_begun = task.gr_frame is not None       # what has not could not catch it: gevent would print it
            task.kill(zerorpc.LostRemote("the client is gone") if has_begun else gevent.GreenletExit, block=False)


class Functor:
    """A method as zerorpc's patterns and inspection want it; answers for its own signature and doc.

    zerorpc 0.6.3 asks ``inspect.getargspec``, which Python 3.11 has not.
    """

    def __init__(self, decorated):
        self._decorated = decorated
        self.pattern = decorated.pattern
        self.signature = _signature(getattr(decorated, "_functor", decorated))

    def __call__(self, *args):
        return self._decorated(*args)

    def _zerorpc_doc(self):
        return self._decorated._zerorpc_doc()

    def _zerorpc_args(self):
        parameters = [p for p in self.signature.parameters.values()
                      if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        defaults = tuple(p.default for p in parameters if p.default is not p.empty)
        return [p.name for p in parameters], None, None, defaults or None


class Hooked:
    """Runs zerorpc's server hooks around a subscription that the lane serves."""

    def __init__(self, context):
        self._context = context

    @property
    def wanted(self):
        """Whether anybody has registered a hook of the server side; asked with each request, as one may come late."""
        hooks = self._context._hooks
        return bool(hooks["load_task_context"] or hooks["server_before_exec"] or hooks["server_after_exec"]
                    or hooks["server_inspect_exception"] or hooks["get_task_context"])

    def before(self, peer, header, name, args):
        """Run the hooks before *name*; return what to call after it. What a hook raises refuses the call."""
        event = request_event(peer, header, name, args)
        self._context.hook_load_task_context(event.header)
        self._context.hook_server_before_exec(event)
        done = Event(wire.STREAM_DONE, None, None, {"message_id": header["message_id"], "v": 3})
        return lambda: self._context.hook_server_after_exec(event, done)


def request_event(peer, header, name, args):
    """Return a request as the zerorpc event that hooks and patterns expect."""
    event = Event(name, args, None, header)
    event.identity = [peer.id]
    return event


def _signature(function):
    with suppress(AttributeError):
        names, _, _, defaults = function._zerorpc_args()
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        given = [inspect.Parameter.empty] * (len(names) - len(defaults or ())) + list(defaults or ())
        return inspect.Signature([inspect.Parameter(n, kind, default=d) for n, d in zip(names, given)])
    try:
        return inspect.signature(function)
    except ValueError:      # some functions written in C do not tell
        return inspect.signature(lambda *args: None)


def _pack(event):
    """Pack *event*, refusing what a stock reader would drop without a word."""
    try:
        blob = event.pack()
        msgpack.unpackb(blob)
    except Exception as error:      # msgpack raises ten kinds
        raise InvalidPayload(f"The method's result cannot be carried: {error}.") from error
    return blob
