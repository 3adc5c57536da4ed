"""Messenger: send and subscribe from any thread, with callbacks, for programs that know nothing of gevent.

Each topic that is subscribed to is a consumer at the server, so a message counts as acknowledged when the
callback has returned, and comes again when it has raised.
"""

import logging
import os
import re
from hashlib import blake2b

from ..client import Client
from ..errors import InvalidOption, RequestError, RequestTimeout
from ..threads.home import Home
from ..threads.waits import allocate_lock
from ..topics import check_pattern
from .receiver import ThreadedReceiver
from .source import Source
from .verdicts import RETRY

logger = logging.getLogger(__name__)

FORGOTTEN_S = 60.0          # what a messenger without a name leaves at the server when it is killed
BACKOFF_S = [0.5, 2, 10]    # until a message comes again whose callback has raised
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
MAX_NAME, MAX_PARTS = 80, 30           # of a messenger, so that a digest has room behind it
_CONSUMER_NAME, _CONSUMER_PARTS = 100, 31   # the server's limits


class Messenger:
    """At the server at *address*; a context manager. It connects when it is used; who only sends reads nothing.

    With a *name*, what is sent while the program is away comes when it is back: its subscriptions stay at the
    server (several programs of one name share the messages). Without one, they are of this object only.
    *timeout_s* is how long a call waits for the server, also for one that is away.

    ``on_exception(error, message)``, of callbacks that raise: "retry" (default; it is logged, and the message comes
    again after BACKOFF_S, ten times at most), "skip" makes it a dead letter at once, "stop" ends the subscription.
    *message* is None where the connection is in trouble.
    """

    def __init__(self, address="tcp://127.0.0.1:4242", name=None, *, timeout_s=30.0, heartbeat_s=5.0,
                 on_exception=None):
        if name is not None and not (isinstance(name, str) and _is_name(name, MAX_NAME, MAX_PARTS)):
            raise InvalidOption(f"The name of a messenger is 1 to {MAX_NAME} letters, digits, '_' and '-', in up to "
                                f"{MAX_PARTS} parts with dots between them, not {name!r:.60}.", option="name")
        self.name = name or f"messenger-{os.urandom(6).hex()}"
        self._address = address
        self._is_named = name is not None
        self._options = {"timeout_s": timeout_s, "heartbeat_s": heartbeat_s}
        self._timeout_s = timeout_s
        self._on_exception = on_exception or _log
        self._receivers = {}        # topic -> receiver
        self._gate = allocate_lock()
        self._home = None

    def send(self, topic, payload, ack=0, timeout_s=None, **options):
        """Publish; return the offset. It is on the server's disk then, and acknowledged by *ack* subscribers.

        Raises RequestTimeout if the server does not answer within *timeout_s*, or, with ``offset`` and ``by``, if fewer
        have acknowledged: the message is stored all the same. *options* and other errors: see ``Client.publish``.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if type(ack) is not int or ack < 0:
            raise InvalidOption(f"ack is a number of subscribers from 0, not {ack!r:.60}.", option="ack")
        if ack:
            options.update(wait="acked", wait_count=ack, wait_timeout_s=timeout_s)
        answer = self._ask(lambda client: client.publish(topic, payload, timeout_s=timeout_s, **options))
        if not ack:
            return answer
        if not answer["complete"]:
            raise RequestTimeout(f"The message is stored at offset {answer['offset']}, and {len(answer['by'])} of "
                                 f"{ack} subscribers have acknowledged it within {timeout_s} s.",
                                 timeout_s=timeout_s, offset=answer["offset"], by=answer["by"])
        return answer["offset"]

    def subscribe(self, topic, callback):
        """Call ``callback(payload, message)``, in a thread of its own, for each message of *topic* (or pattern).

        From now on, or where a messenger of this name was. For a topic that is subscribed to, the callback is
        replaced. Returns when the server knows. Raises RequestTimeout, InvalidTopic.
        """
        check_pattern(topic)
        if not callable(callback):
            raise InvalidOption(f"A callback is a function of a payload and a message, not {callback!r:.60}.",
                                option="callback")

        def call(message):
            callback(message.payload, message)

        with self._gate:
            there = self._receivers.get(topic)
            if there is not None and there.is_running:
                there.callback = call
                return
            source = Source.consume(self._address, self._consumer(topic), topic, backoff_s=BACKOFF_S,
                                    inactive_s=None if self._is_named else FORGOTTEN_S, **self._options)
            receiver = self._receivers[topic] = ThreadedReceiver(source, call, self._on_exception).start()
        try:
            receiver.wait_open(self._timeout_s)
        except BaseException:
            receiver.shutdown()
            self._receivers.pop(topic, None)
            raise

    def unsubscribe(self, topic):
        """Call nobody for *topic* any more, and have the server forget about it. Raises RequestError if nobody was."""
        with self._gate:
            receiver = self._receivers.pop(topic, None)
        if receiver is None:
            raise RequestError(f"Nothing was subscribed to {topic!r:.80}.", topic=topic)
        receiver.shutdown()
        self._ask(lambda client: client.delete_consumer(self._consumer(topic)))

    def stop(self):
        """End all threads, after the callbacks that are at work. A messenger with a name may come back."""
        with self._gate:
            receivers, self._receivers = self._receivers, {}
            home, self._home = self._home, None
        for receiver in receivers.values():
            receiver.shutdown()
        if home is not None:
            home.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _consumer(self, topic):
        """Return the name of the consumer of *topic*: readable, where no other name and topic can make the same."""
        readable = f"{self.name}.{topic}"
        if "." not in self.name and _is_name(readable, _CONSUMER_NAME, _CONSUMER_PARTS):
            return readable
        return f"{self.name}.{blake2b(topic.encode(), digest_size=8).hexdigest()}"

    def _ask(self, ask):
        """Return ``ask(client)``, run on the hub of a client of ours; from any thread."""
        with self._gate:
            if self._home is None:
                self._home = Home(lambda: Client(self._address, **self._options))
            home = self._home
        return home.carrier.call(lambda: ask(home.inside))


def _is_name(name, length, parts):
    return len(name) <= length and name.count(".") < parts and _NAME.fullmatch(name) is not None


def _log(error, message):
    if message is None:
        logger.warning("a messenger tries its connection again: %s", error)
    else:
        logger.warning("%r will come again", message, exc_info=error)
    return RETRY
