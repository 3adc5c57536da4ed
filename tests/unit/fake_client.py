"""An imitation of the client, for tests of what the commands ask of it, print and return."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

from gevent.event import AsyncResult

from zstreampub import errors
from zstreampub.message import Batch, Message


class FakeClient:
    """Keeps what was published; gives what it was told to."""

    def __init__(self):
        self.published = []
        self.terms = []
        self.refuse = {}
        self.batches = []
        self.asked = None
        self.closed = False
        self.workers = {}       # number -> what it answers
        self.is_connected = True
        self.consumption = FakeConsumption()
        self.called = []        # (method, arguments, options) of what has an answer in `answers`
        self.answers = {}

    def __call__(self, address, timeout_s):
        self.address, self.timeout_s = address, timeout_s
        return self

    def publish(self, topic, payload, headers=None, key=None, id=None, **terms):
        if topic in self.refuse:
            raise self.refuse[topic]
        self.published.append((topic, payload, key, headers))
        self.terms.append({**terms, **({"id": id} if id is not None else {})})
        return len(self.published) - 1

    def producer(self):
        return SimpleNamespace(publish=self._publish_later, close=lambda: None)

    def _publish_later(self, topic, payload, key=None, headers=None, id=None):
        future = AsyncResult()
        try:
            future.set(self.publish(topic, payload, headers, key, id))
        except errors.ZStreamPubError as error:
            future.set_exception(error)
        return future

    def subscribe(self, patterns, **options):
        self.asked = patterns, options
        return SimpleNamespace(batches=lambda: self._stream(options), close=lambda: None)

    def _stream(self, options):
        options["on_control"]({"control": "subscribed", "offset": 3, "epoch": "e"})
        for batch in self.batches:
            if isinstance(batch, BaseException):
                raise batch
            if callable(batch):
                batch()
            elif isinstance(batch, dict):
                options["on_gap" if batch["control"] == "gap" else "on_control"](batch)
            else:
                yield batch

    def get(self, offset):
        return next((one for batch in self.batches for one in batch.messages() if one.offset == offset), None)

    def last(self, topic, key=None):
        found = [one for batch in self.batches for one in batch.messages() if (one.topic, one.key) == (topic, key)]
        return found[-1] if found else None

    def about(self):
        return {"first": 3, "next": 9}

    def unsubscribe(self, subscription_id):
        return subscription_id == "x"

    def topics(self, pattern):
        return [{"topic": "a.b", "messages": 2, "bytes": 100, "next": 5}]

    def subscriptions(self):
        return [{"id": "x", "patterns": ["a.>"], "policy": "spill", "state": "live", "position": 4, "lag": 0}]

    def stats(self):
        return {"published": 5, "store": {"bytes": 7}}

    def ask_workers(self, method, *args):
        return self.workers

    def consume(self, patterns, consumer, **options):
        self.asked = patterns, consumer, options
        return self.consumption

    def call(self, method, *args):
        return self._answer(method, *args)

    def __getattr__(self, method):
        if method in self.answers:
            return partial(self._answer, method)
        raise AttributeError(method)

    def _answer(self, method, *args, **options):
        self.called.append((method, args, options))
        answer = self.answers[method]
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args, **options) if callable(answer) else answer

    def close(self):
        self.closed = True


class FakeConsumption:
    """Gives *deliveries*, then nothing more; ``said`` is what was said of them, in order."""

    ack_wait_s = 30.0

    def __init__(self, *deliveries):
        self.deliveries = list(deliveries)
        self.said = []
        self.errors = {}        # verb -> what its answer is instead of success
        self.closed = False

    def get(self, timeout_s=None):
        if not self.deliveries:
            raise errors.RequestTimeout("No message came in time.")
        delivery = self.deliveries.pop(0)
        if isinstance(delivery, BaseException):
            raise delivery
        delivery.say = self.say
        return delivery

    def say(self, verb, offset, *what):
        self.said.append((verb, offset, *what))
        answer = AsyncResult()
        if verb in self.errors:
            answer.set_exception(self.errors[verb])
        else:
            answer.set(None)
        return answer

    def close(self):
        self.closed = True


class FakeDelivery(Message):
    """A delivery that tells its consumption what is said of it."""

    say: Callable = staticmethod(lambda *_: None)

    def __init__(self, offset, payload, topic="a.b", delivery=1, token=7, **fields):
        super().__init__(topic, offset, 1.5, payload, **fields)
        self.delivery, self.token = delivery, token

    def ack(self):
        return self.say("ack", self.offset)

    def nack(self, delay_s=None, reason=None):
        return self.say("nack", self.offset, reason)

    def reject(self, reason=None):
        return self.say("reject", self.offset, reason)

    def extend(self, seconds):
        return self.say("extend", self.offset, seconds)

    def as_map(self):
        return {**super().as_map(), "delivery": self.delivery, "token": self.token}


def sealed(first, *payloads, topic="a.b"):
    batch = Batch.of(topic, payloads)
    batch.seal(first, 1_500_000)
    return batch
