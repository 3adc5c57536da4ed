"""Items of a work queue: how they are named, how they are shown, and how many there are."""

from queue import Empty
from typing import Any

_STATUS = {"new": 0, "waiting": 1, "in_flight": 2}      # persist-queue's numbers for the states of an item
PAGE = 1000


class Items:
    """What :class:`~zstreampub.views.workqueue.WorkQueue` says of its items; ``_port`` knows them, by ``consumer``."""

    _port: Any
    consumer: str
    topic: str
    maxsize: int

    def peek(self, raw=False):
        """Return the item that ``get`` would take now, and leave it there. Raises Empty."""
        message = self._port.ask("peek", self.consumer)
        if message is None:
            raise Empty
        return _raw_of(message) if raw else message["payload"]

    def browse(self, first=None, limit=100):
        """Return what is not settled, the oldest first, from id *first* on: a list of at most *limit* maps.

        Each has ``pqid``, ``data``, ``timestamp``, ``delivery`` and ``state``: "new", "waiting" (given
        back) or "in_flight" (taken).
        """
        found = self._port.ask("browse", self.consumer, first=first, limit=limit)
        return [_raw_of(one, state=one["state"]) for one in found]

    def queue(self):
        """Return everything that is not settled: maps of ``id``, ``data``, ``timestamp`` and ``status``.

        The status is 0 for what is new, 1 for what was given back, 2 for what is taken.
        """
        return [{"id": one["offset"], "data": one["payload"], "timestamp": one["time"], "status": _STATUS[one["state"]]}
                for one in self._browse()]

    def _browse(self, first=None):
        while True:
            page = self._port.ask("browse", self.consumer, first=first, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            first = page[-1]["offset"] + 1

    def describe(self):
        """Return what the consumer says of itself: lag, pending, dead letters, settings."""
        return self._port.ask("describe", self.consumer)

    @property
    def size(self):
        """How many items can be taken, counted in the log."""
        about = self.describe()
        return about["lag"]["messages"] - about["in_flight"]

    def qsize(self):
        """Return how many items can be taken."""
        return self.size

    def __len__(self):
        return self.size

    def __bool__(self):
        return True     # len() asks the log; `if queue:` must not

    def empty(self):
        """Return whether there is nothing to take; cheaper than ``qsize()``."""
        return self._port.ask("peek", self.consumer) is None

    def full(self):
        """Return whether there are ``maxsize`` items; without a ``maxsize``, False."""
        return 0 < self.maxsize <= self.qsize() if self.maxsize > 0 else False

    def active_size(self):
        """Return how many items are not settled: those that can be taken, and those that are."""
        return self.describe()["lag"]["messages"]

    def unack_count(self):
        """Return how many items are taken and not settled."""
        return self.describe()["in_flight"]

    def ready_count(self):
        """Return how many items were taken, given back, and can be taken again."""
        return self.describe()["waiting"]

    def acked_count(self):
        """Return how many items were acknowledged and are still in the log, see :meth:`WorkQueue.clear_acked`."""
        about, kept = self.describe(), self._port.count(self.topic)
        return max(0, kept - about["lag"]["messages"] - about["dead"])

    def ack_failed_count(self):
        """Return how many items have failed: dead letters that were not purged."""
        return self.describe()["dead"]


def offset_of(id):
    """Return the offset that *id* means: a number, its digits, or what ``get(raw=True)`` returned."""
    if is_raw(id):
        id = id["pqid"]
    if isinstance(id, str) and id.isdecimal():
        id = int(id)
    if id is not None and (type(id) is not int or id < 0):
        raise ValueError(f"An id is what put returned, not {id!r:.60}.")
    return id


def is_raw(item):
    """Return whether *item* is what ``get(raw=True)`` returned."""
    return isinstance(item, dict) and "pqid" in item


def raw_map(message, **more):
    """Return what ``get(raw=True)`` does for a message."""
    return {"pqid": message.offset, "data": message.payload, "timestamp": message.time,
            "delivery": message.delivery, **more}


def _raw_of(fields, **more):
    return {"pqid": fields["offset"], "data": fields["payload"], "timestamp": fields["time"],
            "delivery": fields.get("delivery"), **more}


def sorted_maps(item):
    """Return *item* with the keys of all its maps in order, for equal maps must be equal bytes."""
    if isinstance(item, dict):
        return {key: sorted_maps(item[key]) for key in sorted(item, key=repr)}
    if isinstance(item, (list, tuple)):
        return [sorted_maps(one) for one in item]
    return item
