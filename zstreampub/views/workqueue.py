"""A work queue on a durable consumer, for people who come from persist-queue.

Items are messages of one topic, an item's id is its offset. What was put is on disk when ``put``
returns, and so is what became of an item when ``ack``, ``nack`` or ``ack_failed`` returns. All of it
may be called from any thread and greenlet that the port serves. docs/queues.rst says what differs
from persist-queue.
"""

import logging
import weakref
from functools import partial
from itertools import islice
from queue import Empty, Full
from time import monotonic

from ..errors import ConnectionLost, InvalidPayload, StaleDelivery, UnknownConsumer, ZStreamPubError
from .held import Held
from .items import PAGE, Items, is_raw, offset_of, raw_map, sorted_maps

logger = logging.getLogger(__name__)

_LONGEST_FETCH_S = 20.0             # below the time that a client waits for an answer
_PAUSES_S = (0.002, 0.25)           # from, to: between looks at what tells nobody when it changes
_RECONNECT_S = 0.1
_MOST_DEAD = 1 << 31
_LONG_LEASE_S = 3600.0              # longer ones are not prolonged


class WorkQueue(Items):
    """First in, first out, each item to one taker at a time, until somebody acknowledges it.

    Made by ``Client.queue``, ``Broker.queue`` and ``ThreadBroker.queue``. The items of *name* are in the topic
    ``queue.<name>`` (or *topic*), what became of them is known to the consumer ``queue.<name>``, which is
    created if need be, with *settings* (``ack_wait_s``, ``max_deliveries``, ``backoff_s``, ...). *unique*: an item that
    is equal to an earlier one is not put again. *maxsize*: ``put`` waits while there are that many.
    ``settings`` are those that the consumer has.

    Over the wire an item is held for ``ack_wait_s`` at a time. That is prolonged for as long as the queue
    object lives: the items of a process that dies are handed out again, those of a slow one are not.
    """

    def __init__(self, port, name="default", *, topic=None, unique=False, maxsize=0, **settings):
        self.name = name
        self.consumer = f"queue.{name}"
        self.topic = self.consumer if topic is None else topic
        self.maxsize = maxsize
        self._port = port
        self._options = {"unique": "content"} if unique else {}
        self._held = Held()
        self._closed = False
        self._open(settings)

    def _open(self, settings):
        try:
            self._port.ask("describe", self.consumer)
        except UnknownConsumer:
            settings = {"start": "earliest", "max_deliveries": 0, "max_dead": _MOST_DEAD,
                        "ack_wait_s": self._port.ack_wait_s, **settings}
            settings = {name: value for name, value in settings.items() if value is not None}
        about = self._port.ask("create", self.consumer, [self.topic], **settings)
        self.settings = about["settings"]
        self._ack_wait_s = self.settings["ack_wait_s"]
        if self._ack_wait_s < _LONG_LEASE_S:
            queue = weakref.ref(self)
            self._port.every(self._ack_wait_s / 3, lambda: _prolong(queue()))

    # --- putting -------------------------------------------------------------------------------

    def put(self, item, block=True, timeout=None):
        """Add *item* at the end; return its id. It is on disk then.

        With ``unique``, the id of the equal item that is there already. Raises InvalidPayload for what is no
        msgpack value; with ``maxsize``, Full if there is no room (within *timeout* seconds).
        """
        if self.maxsize > 0:
            deadline = _deadline(block, timeout)
            if not self._wait_until(lambda: self.qsize() < self.maxsize, deadline):
                raise Full
        try:
            return self._port.publish(self.topic, sorted_maps(item) if self._options else item, **self._options)
        except InvalidPayload as error:
            raise InvalidPayload(f"{error} A queue keeps plain values and pickles nothing: make a map of an object "
                                 "(dataclasses.asdict), or put the bytes of a serializer of your own.") from error

    def put_nowait(self, item):
        """Add *item*; with ``maxsize``, raise Full if there is no room."""
        return self.put(item, block=False)

    def update(self, item, id=None):
        """Put *item* in the place of the one with *id*, which must not be taken at the moment; return the id.

        *item* may be what ``get(raw=True)`` returned, with its ``data`` changed.
        """
        if is_raw(item):
            id = item["pqid"] if id is None else id
            item = item["data"]
        if id is None:
            raise ValueError("Provide an id or raw item")
        offset = offset_of(id)
        self._port.ask("replace", self.consumer, offset, item)
        return offset

    # --- getting -------------------------------------------------------------------------------

    def get(self, block=True, timeout=None, id=None, next_in_order=False, raw=False, *, offset=None):
        """Take the next item, one that was given back before all others; it is the caller's until it is settled.

        *id* (or *offset*): that very item, and Empty if it will not come; *next_in_order*: the first one after it, from
        the beginning if there is none. *raw*: a map of ``pqid`` (the id), ``data``, ``timestamp``,
        ``delivery`` (1 the first time). Raises Empty if there is none (within *timeout* seconds).
        """
        deadline = _deadline(block, timeout)
        wanted = offset_of(offset if id is None else id)
        if wanted is None and next_in_order:
            raise ValueError("'next_in_order' requires the preceding 'id' be specified.")
        if wanted is None:
            delivery = self._take(deadline)
        elif next_in_order:
            delivery = self._take_after(wanted) or self._take(deadline)
        else:
            delivery = self._take_that(wanted, deadline)
        if delivery is None:
            raise Empty
        item = delivery.payload
        self._held.add(delivery.offset, item, delivery.token)
        return raw_map(delivery, token=delivery.token) if raw else item

    def get_nowait(self, id=None, raw=False):
        """Take the next item; raise Empty if there is none."""
        return self.get(block=False, id=id, raw=raw)

    def _take(self, deadline):
        while True:
            left_s = None if deadline is None else max(deadline - monotonic(), 0.0)
            longest_s = _LONGEST_FETCH_S if left_s is None else min(left_s, _LONGEST_FETCH_S)
            try:
                delivery = self._port.fetch(self.consumer, longest_s)
            except ConnectionLost:
                if not self._port.is_open() or (deadline is not None and monotonic() >= deadline):
                    raise
                self._port.sleep(_RECONNECT_S)      # what was on its way comes back when its lease is over
                continue
            if delivery is not None or (left_s is not None and left_s <= longest_s):
                return delivery

    def _take_that(self, offset, deadline):
        """Take the item at *offset*, as soon as whoever has it gives it back."""
        found = []

        def is_over():
            found.append(self._port.fetch(self.consumer, 0.0, offset))
            return found[-1] is not None or self._state_of(offset) is None

        self._wait_until(is_over, deadline)
        return found[-1]

    def _take_after(self, offset):
        for first in (offset + 1, None):
            for one in self._browse(first):
                if one["state"] != "in_flight":
                    delivery = self._port.fetch(self.consumer, 0.0, one["offset"])
                    if delivery is not None:
                        return delivery
        return None

    def _state_of(self, offset):
        found = self._port.ask("browse", self.consumer, first=offset, limit=1)
        return found[0]["state"] if found and found[0]["offset"] == offset else None

    # --- settling ------------------------------------------------------------------------------

    def ack(self, item=None, id=None):
        """Be done with *item*, the object that ``get`` returned, or the one with *id*; return its id.

        What nobody here has taken is logged and left alone: None is returned. Raises
        StaleDelivery if the item was handed out again meanwhile.
        """
        return self._settle("ack", item, id)

    def nack(self, item=None, id=None, *, delay_s=None):
        """Give *item* back, to be taken again (after *delay_s*); return its id, see :meth:`ack`."""
        return self._settle("nack", item, id, delay_s=delay_s)

    def ack_failed(self, item=None, id=None, *, reason=None):
        """Be done with *item* as one that failed: a dead letter; return its id, see :meth:`ack`."""
        return self._settle("reject", item, id, reason=reason or "ack_failed")

    def task_done(self):
        """Acknowledge what the calling thread or greenlet has taken last, if it holds anything.

        Never an item of another thread, nor one that the caller took before and whose work failed.
        """
        offset = self._held.newest_own()
        if offset is not None:
            self._settle("ack", None, offset)

    def _settle(self, verb, item, id, **options):
        if item is not None and id is not None:
            raise ValueError("Specify an id or an item, not both.")
        if item is None and id is None:
            raise ValueError("Specify an id or an item.")
        if id is None and not is_raw(item):
            offset = self._held.find(item)
            if offset is None:
                logger.warning("%s of an item that was not taken from the queue %r here.", verb, self.name)
                return None
        else:
            offset = offset_of(item if id is None else id)
        token = item.get("token") if is_raw(item) else None
        token = self._held.token(offset) if token is None else token
        try:
            self._say(verb, offset, token, options)
        finally:
            if self._held.token(offset) == token:
                self._held.remove(offset)
        return offset

    def _say(self, verb, offset, token, options):
        try:
            self._port.ask(verb, self.consumer, [offset if token is None else (offset, token)], **options)
        except StaleDelivery:
            taken = self._port.fetch(self.consumer, 0.0, offset) if token is None else None
            if taken is None:
                raise
            self._port.ask(verb, self.consumer, [(offset, taken.token)], **options)     # nobody had it yet

    def resume_unack_tasks(self):
        """Give back everything that is taken and not settled, whoever has it."""
        many = self.unack_count()
        taken = many and list(islice((one["offset"] for one in self._browse() if one["state"] == "in_flight"), many))
        for some in _pages(taken or []):
            self._port.ask("nack", self.consumer, some, delay_s=0)

    # --- waiting -------------------------------------------------------------------------------

    def join(self, timeout=None):
        """Wait until every item is settled; return whether that is so (within *timeout* seconds)."""
        return self._wait_until(lambda: not self.active_size(), _deadline(True, timeout))

    def _wait_until(self, condition, deadline):
        pause_s, longest_s = _PAUSES_S
        while not condition():
            left_s = pause_s if deadline is None else deadline - monotonic()
            if left_s <= 0:
                return False
            self._port.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, longest_s)
        return True

    # --- tidying up ------------------------------------------------------------------------------

    def clear_acked(self, keep_latest=1000, max_delete=1000):
        """Remove the oldest settled items from the log, at most *max_delete*, and leave the *keep_latest* newest.

        Returns how many went. Nothing else removes them, unless the store has a rule of retention for the topic.
        """
        return self._port.ask("clear_acked", self.consumer, keep_latest=keep_latest, max_delete=max_delete)

    def clear_acked_data(self, max_delete=1000, keep_latest=1000, clear_ack_failed=False):
        """:meth:`clear_acked` by persist-queue's name; *clear_ack_failed*: the failed ones, too."""
        self.clear_acked(keep_latest=keep_latest, max_delete=max_delete)
        if clear_ack_failed:
            self._port.ask("purge", self.consumer)

    def shrink_disk_usage(self):
        """Do nothing: room that is free is used again, the file does not shrink."""

    def close(self):
        """Let go of the queue; what was taken and not settled is given back, unless this process is the only one.

        Then it is given back when the queue is opened again.
        """
        self._let_go()()

    def _let_go(self):
        """Have it closed; return what is left to do, a function that may wait and knows nothing of the queue."""
        is_over, self._closed = self._closed, True
        deliveries = [] if is_over or self._port.is_alone else self._held.deliveries()
        return partial(_give_back, self._port, self.consumer, deliveries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _prolong(self):
        deliveries = [] if self._closed else self._held.deliveries()
        for some in _pages(deliveries):
            try:
                self._port.ask("extend", self.consumer, some, self._ack_wait_s)
            except ZStreamPubError:
                pass        # whoever settles such an item is told
        return not self._closed


def _prolong(queue):
    return queue is not None and queue._prolong()


def _give_back(port, consumer, deliveries):
    for some in _pages(deliveries):
        try:
            port.ask("nack", consumer, some, delay_s=0)
        except ZStreamPubError:
            pass        # then they come back by themselves


def _pages(deliveries):
    return [deliveries[at:at + PAGE] for at in range(0, len(deliveries), PAGE)]


def _deadline(block, timeout):
    """Return when to give up, None for never."""
    if not block:
        return 0.0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return None if timeout is None else monotonic() + timeout
