"""zstreampub.Server: a zerorpc.Server with a socket and a dispatch of our own.

It takes what zerorpc.Server takes: any object with methods, ``@zerorpc.stream`` methods,
hooks and middleware. The hot calls of a :class:`~zstreampub.service.Service` go through the
lane; everything else through zerorpc's patterns on channels of ours.
"""

import gc
import logging
import resource
import sys
from contextlib import suppress

import zerorpc
from gevent.event import Event
from zerorpc.core import ServerBase

from .allocator import keep_freed_memory
from .errors import InvalidOption
from .lane import Lane
from .methods import Functor, Hooked, MethodCall
from .requests import PUBLISHING
from .service import Service
from .settings import Settings
from .sockets import Sockets
from .steering import SETTLING

logger = logging.getLogger(__name__)

_FRAME_SLACK = 64 * 1024        # over max_batch_bytes, for the envelope of the largest batch
_LINGER_MS = 2_000
_SWITCH_S = 0.0005              # see tune_process()
_YOUNG_OBJECTS, _YOUNG_ROUNDS = 5_000, 10_000   # see tune_process()


class Server(zerorpc.Server):
    """Serve *methods* (an object, a dict, or this object itself), like ``zerorpc.Server``.

    With a :class:`Service` the settings are those of its broker. ``pool_size`` is refused: a full
    pool stops everybody's heartbeats (limit calls inside your methods instead).
    """

    def __init__(self, methods=None, name=None, context=None, pool_size=None, heartbeat=None):
        if pool_size is not None:
            raise InvalidOption("pool_size stops everybody's heartbeats when the pool is full; leave it out.")
        self._broker = methods._broker if isinstance(methods, Service) else None
        settings = self._broker.settings if self._broker else Settings(heartbeat_s=heartbeat or 5.0)
        if heartbeat is not None and heartbeat != settings.heartbeat_s:
            raise InvalidOption("Set heartbeat_s in the Settings of the broker.", option="heartbeat")
        self._context = context or zerorpc.Context.get_instance()
        self._events = Sockets(self._context, settings.max_batch_bytes + _FRAME_SLACK)
        service, own = (self, Server) if methods is None else (methods, zerorpc.Server)
        name = name or ServerBase._extract_name(service)
        ServerBase.__init__(self, self._events, ServerBase._filter_methods(own, self, service), name,
                            self._context, None, settings.heartbeat_s)
        self._methods: dict = {name: Functor(zerorpc.rep(method) if not hasattr(method, "pattern") else method)
                         for name, method in self._methods.items()}
        self._stopped = Event()
        self._failure = None
        self._closed = False
        hooks = Hooked(self._context)
        self._lane = Lane(self._broker, settings, _express(methods), self._run_method, hooks)
        self._lane.link(self._lane_died)
        self._events.serve(self._attach)
        if self._broker is not None:
            self._broker.on_failed = self._store_died
            self._broker.server_stats = self._lane.stats

    @property
    def endpoints(self):
        """Where it listens; a port that was chosen by the system has its number."""
        return list(self._events.endpoints)

    def run(self):
        """Serve until :meth:`stop`, :meth:`drain` or :meth:`close`; raise what made serving impossible."""
        self._stopped.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self):
        """Let :meth:`run` return. Streams stay until :meth:`close`."""
        self._stopped.set()

    def drain(self, timeout_s=None):
        """Answer the publishes in flight, end every stream with ServerDraining, then stop and close."""
        timeout_s = self._broker.settings.drain_timeout_s if timeout_s is None and self._broker else timeout_s or 5.0
        if self._broker is not None:
            self._broker.drain(timeout_s)
        self._lane.flush(timeout_s)
        self.stop()
        self.close()

    def close(self):
        """Close the socket and all its channels; the broker stays open for who embeds it."""
        if self._closed:
            return
        self._closed = True
        self.stop()
        self._lane.close(_LINGER_MS)
        self._events.close()

    def _run_method(self, peer, header, name, args):
        call = MethodCall(self._lane, peer, header["message_id"], self._context)
        self._lane.register(call)
        call.run(self._methods, header, name, args)

    def _attach(self, make):
        transport = self._lane.attach(make)
        transport.link(self._lane_died)
        return transport

    def _lane_died(self, task):
        if not self._closed:
            self._fail(task.exception or RuntimeError("a greenlet of the lane ended"))

    def _store_died(self, error):
        self._fail(error)

    def _fail(self, error):
        logger.critical("the server stops: %s: %s", type(error).__name__, error)
        self._failure = error
        self._stopped.set()


def _express(methods):
    """Return the names of the methods that the lane may serve: those that nobody has changed."""
    if not isinstance(methods, Service):
        return frozenset()
    return frozenset(name for name in ("subscribe", *PUBLISHING, *SETTLING)
                     if getattr(type(methods), name) is getattr(Service, name) and name not in vars(methods))


def tune_process():
    """Make this process a good one for a server that has it to itself.

    The thread switch interval is set to 0.5 ms: with Python's 5 ms the writer thread waits that long for a busy hub, at
    every commit. Only what is new is looked at for garbage, often, so that it is little (some 5,000 objects, 1 ms), and
    the rest next to never: nothing here makes circles, and to look at the objects of 10,000 subscriptions holds the hub
    for 0.1 s, at a million pending messages for 0.3 s. Freed memory is kept at hand (see allocator.py).
    It may open as many files as the system lets it.
    """
    keep_freed_memory()
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_ROUNDS)
    _allow_connections()


def _allow_connections():
    """Raise the soft limit of open files, often 1,024, to the hard one: each connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):     # some systems refuse their own "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
