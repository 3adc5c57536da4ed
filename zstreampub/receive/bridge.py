"""The bridge: what comes on a plain ZeroMQ socket is published durably, by way of a store on disk if there is one.

With a store, each message has an id, made when it is stored, of the store's own name and a running number; the server
stores each id once. So nothing that is in the store is lost or doubled, whatever is killed.
"""

import os
from collections import deque

import gevent
from gevent.event import Event

from ..client.timing import Backoff
from ..errors import ConnectionLost, Overloaded, RequestError, StoreError
from ..message import Message
from .frames import to_publish

FORWARDED = 1000            # messages of one round from the store to the server
WINDOW = 4096               # messages that wait for the server's answer, where there is no store
WINDOW_BYTES = 16 << 20     # the same; one message more may go over it
FOREVER_S, FOREVER_BYTES = 1e7, 1 << 60
_MARK = "bridge"
_TROUBLE = (StoreError, Overloaded, ConnectionLost)


class Counts:
    """What a bridge has seen: ``received`` from one side, ``sent`` to the other, ``refused`` by that for good."""

    def __init__(self):
        self.received = self.sent = self.refused = 0


class Topics:
    """From frames to ``(topic, payload)``: all under *topic*, or with *has_topic_frame* below it."""

    def __init__(self, topic, has_topic_frame):
        self._topic, self._has_topic_frame = topic, has_topic_frame

    def of(self, frames):
        return to_publish(frames, self._topic, self._has_topic_frame)


class Spooling:
    """A receiver's callback that puts what is to be published into *store*, a FifoStore, each with its id."""

    def __init__(self, store, topics, counts):
        self.added = Event()
        self._store, self._topics, self._counts = store, topics, counts
        kept = store.mark(_MARK)
        self._name, self._next = kept or (os.urandom(6).hex(), 0)

    def __call__(self, frames):
        self.add_many([frames])

    @property
    def waiting(self):
        """How many messages are in the store."""
        return len(self._store)

    def stop(self):
        """Wait no more for room: a full store refuses at once, as it is."""

    def mark(self, name):
        """A ZeroMQ socket has no place to go on from."""

    def add_many(self, many, mark=None):
        """Store messages as they came; the number for the next one is kept in the same transaction."""
        messages = [self._message(number, frames) for number, frames in enumerate(many, self._next)]
        next = self._next + len(messages)
        self._store.add_many(messages, mark=(_MARK, [self._name, next]))
        self._next = next
        self._counts.received += len(messages)
        self.added.set()

    def _message(self, number, frames):
        topic, payload = self._topics.of(frames)
        return Message(topic, number, 0.0, payload, id=f"{self._name}-{number}")


class Forwarder:
    """Publishes what is in *store* in order, and takes it out when the server has it on its disk.

    ``tell(sentence)`` is for people: a message that the server refuses for good is named, and taken out. All other
    trouble is told once, and tried again.
    """

    def __init__(self, client, store, counts, tell):
        self._client, self._store, self._counts, self._tell = client, store, counts, tell
        self._trouble = None

    def run(self, added):
        """Go on for ever; *added* is an Event that is set when something was stored."""
        backoff = Backoff()
        producer = self._client.producer(linger_s=0.0001, timeout_s=FOREVER_S)      # not closed: that would wait
        while True:
            added.clear()
            messages = self._store.front_many(FORWARDED)
            if not messages:
                added.wait()
            elif self._forward(producer, messages):
                self._store.pop_many(len(messages))
                self._trouble = None
                backoff.reset()
            else:
                gevent.sleep(backoff.pause_s())

    def _forward(self, producer, messages):
        """Publish *messages*; return whether each is stored or refused for good."""
        answers = [(message, _publish(producer, message)) for message in messages]
        refused = []
        for message, answer in answers:
            try:
                answer.get()
            except RequestError as error:
                refused.append(f"message {message.id} for {message.topic} was refused: {error}")
            except _TROUBLE as error:
                self._tell_trouble(error)
                return False
        for sentence in refused:
            self._tell(sentence)
        self._counts.refused += len(refused)
        self._counts.sent += len(messages) - len(refused)
        return True

    def _tell_trouble(self, error):
        if type(error) is not self._trouble:
            self._trouble = type(error)
            self._tell(f"publishing is tried again: {error}")


class Direct:
    """A receiver's callback that publishes at once: at most WINDOW messages and WINDOW_BYTES wait for the server.

    Then it waits, and so does whoever sends to a PULL or PAIR socket; a SUB socket's messages are dropped by ZeroMQ,
    uncounted, when its own queue is full.
    """

    def __init__(self, client, topics, counts, tell, on_trouble):
        self._producer = client.producer(timeout_s=FOREVER_S, max_pending_bytes=FOREVER_BYTES)
        self._topics, self._counts, self._tell, self._on_trouble = topics, counts, tell, on_trouble
        self._answers = deque()
        self._bytes = 0
        self._changed = Event()
        self._is_stopping = False
        self._collector = gevent.spawn(self._collect)

    def __call__(self, frames):
        while (len(self._answers) >= WINDOW or self._bytes >= WINDOW_BYTES) and not self._is_stopping:
            self._changed.clear()
            self._changed.wait()
        topic, payload = self._topics.of(frames)
        self._counts.received += 1
        try:
            answer = self._producer.publish(topic, payload)
        except RequestError as error:
            self._refused(topic, error)
            return
        self._answers.append((topic, answer))
        self._bytes += answer.size
        self._changed.set()

    def stop(self):
        """Wait no more for room: what is in hand is taken, and nothing after it is to come."""
        self._is_stopping = True
        self._changed.set()

    @property
    def waiting(self):
        """How many messages wait for the server's answer."""
        return len(self._answers)

    def finish(self, timeout_s):
        """Wait for the answers, at most *timeout_s*."""
        with gevent.Timeout(timeout_s, False):
            while self._answers and not self._collector.dead:
                self._changed.clear()
                self._changed.wait(0.1)
        self._collector.kill()

    def _collect(self):
        while True:
            while self._answers:
                topic, answer = self._answers[0]
                try:
                    answer.get()
                    self._counts.sent += 1
                except RequestError as error:
                    self._refused(topic, error)
                except _TROUBLE as error:
                    self._on_trouble(error)
                    return
                self._answers.popleft()
                self._bytes -= answer.size
                self._changed.set()
            self._changed.clear()
            self._changed.wait()

    def _refused(self, topic, error):
        self._counts.refused += 1
        self._tell(f"a message for {topic} was refused: {error}")


class _Refused:
    """Stands for the future of a message that is wrong in itself."""

    def __init__(self, error):
        self._error = error

    def get(self):
        raise self._error


def _publish(producer, message):
    try:
        return producer.publish(message.topic, message.payload, id=message.id)
    except RequestError as error:
        return _Refused(error)
