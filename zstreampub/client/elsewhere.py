"""Elsewhere: the workers of a server, to which it may send subscriptions, as one client reaches them.

The server decides, each time that a subscription is opened; a client only says that it can go. A connection to
a worker is made when it is first needed, shared by all subscriptions that are there, and closed when there are none.
"""

from contextlib import suppress
from time import monotonic
from urllib.parse import urlsplit

from gevent.event import Event

from ..errors import ConnectionLost
from .calls import Call

_ANSWER_S = 3.0             # the longest that a worker may take
_AVOID_S = 60.0             # where nothing was heard, nobody goes for so long
_EVERYWHERE = ("*", "0.0.0.0", "[::]")


class Elsewhere:
    """Of the server to which *home* are the Channels; ``connect(addresses, on_up=function)`` returns others.

    With *allowed* False no subscription goes anywhere.
    """

    def __init__(self, home, connect, allowed):
        home.elsewhere = self
        self._home = home
        self._connect = connect
        self._allowed = allowed
        self._knows = False         # whether the server has heard of workers
        self._learned = Event()
        self._channels = {}         # address -> Channels
        self._failed = {}           # address -> when

    def learn(self, about):
        """Take what the server says of itself, None if it says nothing."""
        self._knows = isinstance(about, dict) and "workers" in about
        self._learned.set()

    def wait(self, timeout_s):
        """Wait until it is known what the server is, at most *timeout_s*."""
        self._learned.wait(timeout_s)

    @property
    def is_possible(self):
        """Whether to tell the server that a subscription can be moved."""
        return self._allowed and self._knows

    def place_in(self, endpoints):
        """Return where to go of *endpoints*, see :func:`seen_from`; None if that is nowhere, or failed lately."""
        place = seen_from(self._home.address, endpoints) if type(endpoints) is dict else None
        return None if monotonic() - self._failed.get(place, -_AVOID_S) < _AVOID_S else place

    def failed(self, address):
        """Learn that nothing was heard at *address*: nobody else needs to try for a while."""
        self._failed[address] = monotonic()

    def channels_at(self, address):
        """Return the Channels to *address*."""
        self.tidy(address)
        if address not in self._channels:
            self._channels[address] = self._connect([address], on_up=_nothing)
        return self._channels[address]

    def ask(self, workers, method, args):
        """Return what each of *workers* (as in the server's ``about()``) answers to *method*, by its number.

        Who cannot be reached is left out.
        """
        found = {}
        for worker in workers:
            place = seen_from(self._home.address, worker["endpoints"])
            if place is not None:
                with suppress(ConnectionLost):
                    found[worker["worker"]] = Call(self.channels_at(place), method, args, _ANSWER_S, retry=True).ask()
        self.tidy()
        return found

    def tidy(self, wanted=None):
        """Close the connections that nothing uses any more, but for that to *wanted*."""
        for address, channels in list(self._channels.items()):
            if channels.is_unused and address != wanted:
                del self._channels[address]
                channels.close()

    def close(self):
        """Close all of them."""
        for channels in self._channels.values():
            channels.close()
        self._channels.clear()


def _nothing():
    pass


def seen_from(address, endpoints):
    """Return where a client that reaches the writer by *address* reaches a worker, None if it cannot.

    *endpoints* maps each endpoint of the writer to one of the worker. A worker that listens on all addresses of its
    machine, or on the writer's, is where the client has found the writer.
    """
    kind, port = urlsplit(address).scheme, _port_of(address)
    found = [pair for pair in endpoints.items() if all(urlsplit(one).scheme == kind for one in pair)]
    if not found:
        return None
    writer, worker = next((pair for pair in found if _port_of(pair[0]) == port), found[0])
    if kind != "tcp":
        return worker
    host = _host_of(worker)
    if host in _EVERYWHERE or host == _host_of(writer):
        host = _host_of(address)
    return f"tcp://{host}:{_port_of(worker)}"


def _host_of(endpoint):
    return endpoint.partition("://")[2].rpartition(":")[0]


def _port_of(endpoint):
    return endpoint.rpartition(":")[2]
