"""Sources: what a receiver is to read, described and not open yet, so that it can be opened where it is read."""

from ..client.consumption import Consumption
from ..client.subscription import Subscription
from ..errors import InvalidOption
from ..topics import check_pattern
from . import zeromq
from .carried import CarriedFeed
from .feed import ConsumerFeed, OpenConsumerFeed, OpenFeed, SubscriptionFeed
from .marks import NoMark, OffsetMark, PendingMark


class Source:
    """One of :meth:`subscribe`, :meth:`consume`, :meth:`zmq`, or what :func:`source_of` makes of something open.

    ``own_patterns`` are those whose messages the receiver's own callback gets. ``is_renewable``: other patterns can be
    asked for, from the same place on.
    """

    is_renewable = False
    has_topics = True
    own_patterns: tuple = (">",)

    @staticmethod
    def subscribe(address="tcp://127.0.0.1:4242", patterns=">", **options):
        """What a subscription to *patterns* (one or a list) at the server brings.

        *options* are those of ``Client.subscribe``, and ``timeout_s`` and ``heartbeat_s`` of the client. ``start``
        counts once: later the receiver goes on where it was.
        """
        return Subscribed(address, patterns, options)

    @staticmethod
    def consume(address, consumer, patterns=(), **options):
        """What a member of *consumer* is given; *options* are those of ``Client.consume`` and of the client."""
        return Consumed(address, consumer, patterns, options)

    @staticmethod
    def zmq(kind, address, *, bind=False, subscriptions=(b"",), high_water_mark=None):
        """What comes on a ZeroMQ socket: *kind* is ``zmq.SUB``, ``zmq.PULL`` or ``zmq.PAIR``, or its name.

        It connects to *address*, or listens there (*bind*). A SUB socket is sent what begins with one of
        *subscriptions*. The socket is closed when the receiver stops.
        """
        name = zeromq.name_of(kind)
        subscriptions = [subscriptions] if isinstance(subscriptions, (str, bytes)) else list(subscriptions)
        return Plain(lambda: zeromq.OpenSocket(name, address, bind, subscriptions, high_water_mark))

    def patterns(self, routes):
        """Return what to ask for."""
        return ()

    def mark(self, name):
        """Return what a store keeps of it besides the messages."""
        return NoMark()

    def check_native(self):
        """Raise InvalidOption if it cannot be read in a native thread."""

    def feed(self):
        """Return a feed for a greenlet of the calling thread's hub."""
        raise NotImplementedError

    def native_feed(self):
        """Return a feed for the calling native thread."""
        return CarriedFeed(self.feed)


class Subscribed(Source):
    """See :meth:`Source.subscribe`."""

    is_renewable = True

    def __init__(self, address, patterns, options):
        self._address, self._options = address, options
        self.own_patterns = _checked(patterns)

    def patterns(self, routes):
        return routes.patterns

    def mark(self, name):
        return OffsetMark(name)

    def feed(self):
        return SubscriptionFeed(self._address, self._options)


class Consumed(Source):
    """See :meth:`Source.consume`."""

    def __init__(self, address, consumer, patterns, options):
        self._address, self._consumer, self._options = address, consumer, options
        self._patterns = _checked(patterns)
        self.own_patterns = (">", "$dead.>")     # the consumer has decided what comes

    def patterns(self, routes):
        return self._patterns

    def mark(self, name):
        return PendingMark(name)

    def feed(self):
        return ConsumerFeed(self._address, self._consumer, self._options)


class Plain(Source):
    """A plain ZeroMQ socket: *socket*, or what *make* opens."""

    has_topics = False

    def __init__(self, make=None, socket=None):
        self._make, self._socket = make, socket

    def feed(self):
        return zeromq.SocketFeed(zeromq.Green, self._socket, self._make)

    def check_native(self):
        if self._socket is not None and zeromq.is_green(self._socket):
            raise InvalidOption("A socket of zmq.green belongs to its hub: read it by a Receiver, or give a "
                                "ThreadedReceiver one of zmq.", option="source")

    def native_feed(self):
        return zeromq.SocketFeed(zeromq.Native, self._socket, self._make)


class Opened(Source):
    """A Subscription or Consumption that somebody has opened, and closes."""

    def __init__(self, reading):
        self._reading = reading
        self._is_consumption = isinstance(reading, Consumption)
        self.own_patterns = (">", "$dead.>")

    def mark(self, name):
        if self._is_consumption:
            return PendingMark(name)
        raise InvalidOption("A subscription that is open already has its place, and a store keeps its own: give the "
                            "receiver the server's address.", option="source")

    def feed(self):
        return (OpenConsumerFeed if self._is_consumption else OpenFeed)(self._reading)

    def check_native(self):
        raise InvalidOption("An open subscription belongs to its thread: read it by a Receiver, or give a "
                            "ThreadedReceiver the server's address.", option="source")


def source_of(source, options):
    """Return *source* as a Source: an address (*options* are those of ``subscribe``, or with ``consumer``, of
    ``consume``), a ZeroMQ socket, an open Subscription or Consumption, or a Source. Raises InvalidOption, InvalidTopic.
    """
    if isinstance(source, str):
        return (Source.consume if "consumer" in options else Source.subscribe)(source, **options)
    if options:
        raise InvalidOption(f"{', '.join(sorted(options))}: options of a source are given with its address.",
                            option=sorted(options)[0])
    if isinstance(source, Source):
        return source
    if zeromq.is_socket(source):
        return Plain(socket=source)
    if isinstance(source, (Subscription, Consumption)):
        return Opened(source)
    raise InvalidOption(f"A source is a server's address, a Source, a ZeroMQ socket, or an open subscription, not "
                        f"{source!r:.60}.", option="source")


def _checked(patterns):
    return tuple(map(check_pattern, [patterns] if isinstance(patterns, str) else patterns))
