"""Intake: how messages come into a broker.

A publisher's greenlet only queues and waits: whatever happens to it, commit and fan-out stay together.
"""

from typing import Any

from gevent.event import AsyncResult, Event

from .checks import check_options
from .codecs import encode, encode_one
from .errors import (
    BatchTooLarge,
    InvalidPayload,
    Overloaded,
    RequestTimeout,
    ServerDraining,
    StoreClosed,
)
from .message import Batch
from .payload import check_message_size
from .publishing import PLAIN, TERMS, Order, check_may_publish, parse_terms, publish_many_result, publish_result
from .store import Append


class Intake:
    """The publishing half of a Broker, which is an Outlet besides, and gives it ``schedule`` and ``receipts``."""

    schedule: Any
    receipts: Any
    store: Any
    settings: Any
    failed: Any
    check_thread: Any
    _draining: bool

    def __init__(self):
        self.pending_bytes = self.refused = 0
        self._idle = Event()
        self._idle.set()

    def publish(self, topic, payload, *, content_type=None, headers=None, key=None, id=None, timeout_s=None, **terms):
        """Store one message and return its offset; it is on disk then.

        *content_type* says how the payload is written (see codecs.py): "json", "cbor", "bytes", ...; None: as msgpack.
        *terms* are those of :data:`~zstreampub.publishing.TERMS`: ``unique``, ``expected_next``, ``ttl_s``, ``delay_s``
        or ``at`` (then it returns an id for ``schedule.cancel``), ``wait``, ``wait_count``, ``wait_for``,
        ``wait_timeout_s`` (then it returns a map, see receipts.py). docs/protocol.rst says what each does.

        Raises InvalidTopic, InvalidPayload, InvalidOption, MessageTooLarge, LimitExceeded, NextMismatch, DuplicateId,
        StoreFull, RequestTimeout (after *timeout_s*; the message may be stored all the same).
        """
        if content_type is not None:
            payload, headers = encode_one(payload, headers, content_type)
        keys, ids, columns = [None if value is None else [value] for value in (key, id, headers)]
        terms = parse_terms(check_options(terms, TERMS), id is not None)
        order = self.order(publish_result, topic, [payload], keys, ids, columns, terms)
        return self.submit_and_wait(order, timeout_s)

    def publish_many(self, topic, payloads, *, content_type=None, headers=None, keys=None, ids=None, timeout_s=None,
                     **terms):
        """Store all of *payloads* or none; return ``(first, next)``. Like :meth:`publish` in all else."""
        if content_type is not None:
            payloads, headers = encode(payloads, headers, content_type)
        terms = parse_terms(check_options(terms, TERMS), ids is not None)
        order = self.order(publish_many_result, topic, payloads, keys, ids, headers, terms)
        return self.submit_and_wait(order, timeout_s)

    def order(self, form, topic, payloads, keys=None, ids=None, headers=None, terms=PLAIN):
        """Return the Order for *payloads* on *terms*; *form* makes of the finished append what it answers."""
        batch = self.pack(topic, payloads, keys, ids, headers, terms.expires_us)
        check_may_publish(topic)
        if terms.unique:
            batch = batch.with_content_ids()
        expected = None if terms.expected_next is None else {topic: terms.expected_next}
        return Order(Append([batch], expected_next=expected), form, terms)

    def submit(self, order, reply):
        """Queue *order*; ``reply(append)`` is called on the hub when it can be answered. Never waits."""
        if order.due_us is not None:
            self.schedule.take(order, reply)
        elif order.wish is not None:
            self._submit_waiting(order, reply)
        else:
            order.append.reply = reply
            self.append(order.append)

    def _submit_waiting(self, order, reply):
        self.receipts.expect(order, reply)
        try:
            self.append(order.append)
        except BaseException:
            self.receipts.forget(order.append)
            raise

    def submit_and_wait(self, order, timeout_s=None):
        """Do :meth:`submit`, wait, and return what *order* answers, or raise its error."""
        answer = AsyncResult()
        self.submit(order, answer.set)
        return order.result(_waited_for(answer, timeout_s))

    def pack(self, topic, payloads, keys=None, ids=None, headers=None, expires_us=None):
        """Return *payloads* as a batch that keeps this broker's limits. *headers*: a map for all, or a list."""
        limits = self.settings
        if not isinstance(payloads, (list, tuple)):
            raise InvalidPayload(f"publish_many takes a list of payloads, not {type(payloads).__name__}.")
        if not 0 < len(payloads) <= limits.max_batch_messages:
            raise BatchTooLarge(f"publish_many takes a list of 1 to {limits.max_batch_messages} payloads.",
                                limit=limits.max_batch_messages)
        if isinstance(headers, dict):
            headers = [headers] * len(payloads)
        expires = None if expires_us is None else [expires_us] * len(payloads)
        batch = Batch.of(topic, payloads, keys, ids, headers, expires)
        if batch.size > limits.max_message_bytes:       # else no single payload can be over it
            check_message_size(max(map(len, batch.raw_payloads)), limits.max_message_bytes)
        return batch

    def append_and_wait(self, append, timeout_s=None):
        """Store *append* and return the first offset of each of its batches, or raise its error."""
        answer = AsyncResult()
        append.reply = answer.set
        self.append(append)
        return _waited_for(answer, timeout_s).firsts

    def append(self, append):
        """Queue *append*; its ``reply(append)`` is called on the hub when it is done. Never waits."""
        self.check_thread()
        if self.failed is not None:
            raise type(self.failed)(str(self.failed), **self.failed.facts)
        if self._draining:
            raise ServerDraining("The server is shutting down and takes no more messages. Try again on the next one.")
        self._check_limits(append)
        self._append(append)

    def append_own(self, append):
        """Queue *append*, which the server itself has made: also while it drains, and whatever is pending."""
        if self.failed is not None and not isinstance(self.failed, StoreClosed):
            raise type(self.failed)(str(self.failed), **self.failed.facts)
        self._append(append)

    def _append(self, append):
        self.store.append(append)       # first, as it may refuse
        self.pending_bytes += append.size
        if append.size:
            self._idle.clear()

    def _check_limits(self, append):
        limits = self.settings
        for batch in append.batches:
            if batch.size > limits.max_batch_bytes:
                raise BatchTooLarge(f"A batch has at most {limits.max_batch_bytes} bytes, this one has {batch.size}.",
                                    size=batch.size, limit=limits.max_batch_bytes)
        if self.pending_bytes + append.size > max(limits.max_pending_bytes, append.size):
            self.refused += 1
            raise Overloaded(f"{self.pending_bytes} bytes wait for the disk already (max_pending_bytes is "
                             f"{limits.max_pending_bytes}). Try again a little later.", limit=limits.max_pending_bytes)


def _waited_for(answer, timeout_s):
    """Return the append that comes as *answer*, or raise its error."""
    answer.wait(timeout_s)      # get() would raise a Timeout that looks like one of the caller's own
    if not answer.ready():
        raise RequestTimeout(f"No answer from the store within {timeout_s} s. The message may or may not be "
                             "stored; publish it again with the same producer and sequence.")
    append = answer.value
    if append.error is not None:
        raise append.error
    return append
