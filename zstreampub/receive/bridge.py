"""The bridge: what comes on a plain ZeroMQ socket is published durably, by way of a client's outbox if it has one.

What came together is published together, and nothing more is received until it is on a disk: in the outbox, which
sends each message once and in order whatever is killed, or, without one, at the server.
"""

from time import monotonic

from gevent.event import Event

from ..client.entries import single
from ..client.timing import Backoff
from ..errors import AccessError, Overloaded, RequestError, RequestTimeout, StoreFull, ZStreamPubError
from .frames import to_publish

FOREVER_S, FOREVER_BYTES = 1e7, 1 << 60
GOODBYE_S = 2.0         # how long what is in hand is waited for at the end
_LOOK_S = 0.1           # how soon whoever waits notices that it is the end
_PATIENCE_S = 1.0       # what takes longer is told


class Counts:
    """What a bridge has seen: ``received`` from one side, ``sent`` to the other, ``refused`` by that for good."""

    def __init__(self, waiting=0):
        self.received = self.sent = self.refused = 0
        self._earlier = waiting

    @property
    def waiting(self):
        """How many there are that were not sent."""
        return self._earlier + self.received - self.sent - self.refused


class Topics:
    """From frames to ``(topic, payload)``: all under *topic*, or with *has_topic_frame* below it."""

    def __init__(self, topic, has_topic_frame):
        self._topic, self._has_topic_frame = topic, has_topic_frame

    def of(self, frames):
        return to_publish(frames, self._topic, self._has_topic_frame)


class Publishing:
    """What a receiver hands over to, in the form of a store: publishes through *client*.

    ``tell(sentence)`` is for people; ``fail(error)`` is to end the bridge. A full disk is waited for. What is refused
    for good is counted; the outbox keeps it and has it logged, without one it is told.
    """

    def __init__(self, client, topics, tell, fail):
        self.unkept = 0         # messages that were in hand at the end, and are on no disk that we know of
        self._outbox = client.outbox
        self._producer = client.producer(timeout_s=FOREVER_S, max_pending_bytes=FOREVER_BYTES)  # not closed: that waits
        self._topics, self._tell, self._fail = topics, tell, fail
        self._ends_at = None
        self._stopping = Event()
        self._is_told = False
        if self._outbox is None:
            self.counts = Counts()
        else:
            self.counts = Counts(self._outbox.messages)
            self._outbox.on_outcome = self._take_outcome

    def __call__(self, frames):
        self.add_many([frames])

    def mark(self, name):
        """A ZeroMQ socket has no place to go on from."""

    def add_many(self, many, mark=None):
        """Publish messages as they came; return when they are on a disk, or soon after :meth:`stop`."""
        left = [self._topics.of(frames) for frames in many]
        self.counts.received += len(left)
        backoff = Backoff()
        while (left := self._publish(left)) and not self._stopping.wait(backoff.pause_s()):
            pass
        self.unkept = len(left) + self._producer.pending

    def stop(self):
        """Wait no more for room, and at most GOODBYE_S for what is in hand; nothing after it is to come."""
        self._ends_at = monotonic() + GOODBYE_S
        self._stopping.set()

    def _publish(self, many):
        """Publish pairs of topic and payload; return those for which there was no room."""
        answers = [self._answer(topic, payload) for topic, payload in many]
        self._wait()
        return [(topic, payload) for (topic, payload), answer in zip(many, answers)
                if answer is not None and self._is_left(topic, payload, answer)]

    def _answer(self, topic, payload):
        try:
            return self._producer.publish(topic, payload)
        except RequestError as error:
            self._refused(topic, payload, error)
            return None

    def _wait(self):
        """Wait until all is on a disk, or has failed."""
        began = monotonic()
        while self._producer.pending:
            try:
                self._producer.flush(_LOOK_S)
            except RequestTimeout:
                now = monotonic()
                if self._ends_at is not None and now >= self._ends_at:
                    return
                if self._outbox is not None and now - began >= _PATIENCE_S:
                    self._tell_full(f"{self._outbox.messages:,} messages of {self._outbox.size_bytes:,} bytes are in "
                                    f"{self._outbox.path}")
            except ZStreamPubError:
                continue        # each answer has its own

    def _is_left(self, topic, payload, answer):
        """Tell whether *answer* is that there was no room."""
        error = answer.exception
        if error is None:
            if self._outbox is None:
                self.counts.sent += answer.ready()
            return False
        if isinstance(error, (RequestError, AccessError)):
            if self._outbox is None:
                self._refused(topic, payload, error)
            return False
        if isinstance(error, (StoreFull, Overloaded)):
            self._tell_full(error)
        else:
            self._fail(error)
        return True

    def _refused(self, topic, payload, error):
        self.counts.refused += 1
        if self._outbox is None:
            self._tell(f"a message for {topic} was refused: {error}")
        else:
            self._set_aside(topic, payload, error)

    def _set_aside(self, topic, payload, error):
        try:
            self._outbox.set_aside(single(topic, payload), error)
        except ZStreamPubError as failed:
            self._tell(f"a message for {topic} was refused, and is lost ({failed}): {error}")

    def _tell_full(self, why):
        if not self._is_told:
            self._is_told = True
            self._tell(f"nothing more is received until there is room: {why}")

    def _take_outcome(self, record, error):
        count = 1 if record is None else record.count
        if error is None:
            self.counts.sent += count
        else:
            self.counts.refused += count
