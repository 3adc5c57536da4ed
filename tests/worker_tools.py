"""What tests of workers share: how they are found, and a crowd of subscribers that misses nothing."""

import os

import gevent

from tests.processes import DEADLINE_S, wait_until
from zstreampub.client import Client


def workers_of(server, count=2):
    """Return what the server tells of its workers, once there are *count*."""
    with Client(server.endpoint, timeout_s=DEADLINE_S) as asking:
        return wait_until(lambda: (found := asking.about()["workers"]) and len(found) == count and found,
                          lambda: f"{count} workers\n{server.log()}")


def endpoint_of(worker):
    return next(iter(worker["endpoints"].values()))


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Crowd:
    """Subscribers, each with a client of its own, that note what they read, and a publisher."""

    def __init__(self, endpoint, count, **options):
        self.publisher = Client(endpoint, timeout_s=DEADLINE_S)
        self.clients = [Client(endpoint, timeout_s=DEADLINE_S, **options) for _ in range(count)]
        self.subscriptions = [one.subscribe("load.>") for one in self.clients]
        self.read = [[] for _ in self.subscriptions]
        self._tasks = [gevent.spawn(self._read, *pair) for pair in zip(self.subscriptions, self.read)]
        self.published = []

    def _read(self, subscription, read):
        for message in subscription:
            read.append((message.offset, message.payload))

    def publish(self, count, size=10):
        """Publish *count* batches of *size*."""
        for _ in range(count):
            first = len(self.published)
            payloads = list(range(first, first + size))
            start, _ = self.publisher.publish_many(f"load.{first % 7}", payloads)
            self.published += list(enumerate(payloads, start))

    def finish(self):
        """Wait until all have everything, see that it is once and in order, and close."""
        wait_until(lambda: all(len(one) >= len(self.published) for one in self.read),
                   lambda: f"{len(self.published)} messages for each, not {[len(one) for one in self.read]}")
        gevent.sleep(0.1)       # a repeated message would come now
        assert all(one == self.published for one in self.read)
        self.close()

    def close(self):
        for one in (*self.clients, self.publisher):
            one.close()
        gevent.joinall(self._tasks, timeout=DEADLINE_S, raise_error=True)
