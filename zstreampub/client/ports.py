"""What a work queue and a table need of a log, where the log is a server's."""

import re
from time import monotonic

import gevent

from ..errors import ConnectionLost, GapError
from ..views.ports import Port

_LOOK_S = 0.02
_NEXT = re.compile(r" is (\d+), not ")


class ClientPort(Port):
    """Of a Client. Others take from the queue, too: what is held is held for a while, and given back at the end."""

    is_alone = False
    ack_wait_s = None       # the server's own default

    @property
    def consumers(self):
        return _Consumers(self.log)

    def is_open(self):
        return self.log.is_open

    def wait_open(self, timeout_s):
        ends = monotonic() + timeout_s
        while not self.log.is_connected and self.log.is_open:
            if monotonic() >= ends:
                raise ConnectionLost("There is no connection to the server at the moment.")
            gevent.sleep(_LOOK_S)

    def read(self, topic):
        return _Reading(self.log.subscribe(topic, start="earliest", until="end"))

    def follow(self, topic, start, epoch):
        return _Reading(self.log.subscribe(topic, start=start, epoch=epoch, policy="conflate"))

    @staticmethod
    def next_in(mismatch):
        return int(_NEXT.search(str(mismatch))[1])      # what an error knows does not cross the wire, what it says does


class _Consumers:
    """A client's calls by the names that they have in a broker."""

    def __init__(self, client):
        self._client = client
        self.create = client.create_consumer
        self.describe = client.consumer

    def __getattr__(self, name):
        return getattr(self._client, name)


class _Reading:
    """A client's subscription: iterate for batches, and for the GapErrors where some are missing."""

    def __init__(self, subscription):
        self._subscription = subscription
        self.close = subscription.close

    def __iter__(self):
        while True:
            try:
                yield from self._subscription.batches()
                return
            except GapError as gap:
                yield gap

    @property
    def position(self):
        return self._subscription.offset

    @property
    def epoch(self):
        return self._subscription.epoch
