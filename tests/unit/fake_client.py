"""An imitation of the client, for tests of what the commands ask of it, print and return."""

from types import SimpleNamespace

from gevent.event import AsyncResult

from zstreampub import errors
from zstreampub.message import Batch


class FakeClient:
    """Keeps what was published; gives what it was told to."""

    def __init__(self):
        self.published = []
        self.refuse = {}
        self.batches = []
        self.asked = None
        self.closed = False
        self.is_connected = True

    def __call__(self, address, timeout_s):
        self.address, self.timeout_s = address, timeout_s
        return self

    def publish(self, topic, payload, headers=None, key=None):
        if topic in self.refuse:
            raise self.refuse[topic]
        self.published.append((topic, payload, key, headers))
        return len(self.published) - 1

    def producer(self):
        return SimpleNamespace(publish=self._publish_later, close=lambda: None)

    def _publish_later(self, topic, payload, key=None, headers=None):
        future = AsyncResult()
        try:
            future.set(self.publish(topic, payload, headers, key))
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

    def close(self):
        self.closed = True


def sealed(first, *payloads, topic="a.b"):
    batch = Batch.of(topic, payloads)
    batch.seal(first, 1_500_000)
    return batch
