"""Gathers single publishes that come one after the other, for one topic, into one batch.

A publisher that does not pack batches itself (any zerorpc client) has a request for each message.
What came in the same turn of the loop is appended together, so the log, the queues and
the readers see one batch. The order of all requests stays as it was. Nothing here waits.
"""

from functools import partial

import gevent

from .message import HEADER, Batch
from .payload import check_message_size, pack_payload
from .publishing import check_may_publish
from .store import Append
from .topics import MAX_TOPIC_BYTES, check_topic

_MAX_MESSAGES = 512
_MAX_BYTES = 64 * 1024
_OVERHEAD = HEADER.size + MAX_TOPIC_BYTES


class Gatherer:
    """Publishes into *broker* what was added, at the end of the turn at the latest."""

    def __init__(self, broker):
        self._broker = broker
        self._topic = None
        self._calls = []
        self._values = []
        self._size = 0
        self._loop = gevent.get_hub().loop

    def add(self, call, topic, payload):
        """Take one message; ``call.succeed(offset)`` or ``call.fail(error)`` is called later.

        Raises InvalidTopic, InvalidPayload, MessageTooLarge.
        """
        limits = self._broker.settings
        if topic != self._topic:
            check_topic(topic)
            check_may_publish(topic)
            self.flush()
        value = pack_payload(payload)
        check_message_size(len(value), limits.max_message_bytes)
        if (len(self._calls) >= limits.max_batch_messages
                or self._size + len(value) + _OVERHEAD > limits.max_batch_bytes):
            self.flush()
        if not self._calls:
            self._topic = topic
            self._loop.run_callback(self.flush)
        self._calls.append(call)
        self._values.append(value)
        self._size += len(value) + 4    # its length stands in the batch too
        if len(self._calls) >= _MAX_MESSAGES or self._size >= _MAX_BYTES:
            self.flush()

    def flush(self):
        """Publish what is there; whoever appends by another way calls this first."""
        if not self._calls:
            return
        calls, values = self._calls, self._values
        self._calls, self._values, self._size = [], [], 0
        # The values are checked and packed already; Batch.of would do both again.
        append = Append([Batch.assemble(self._topic, values, {})], partial(_answer, calls))
        try:
            self._broker.append(append)
        except Exception as error:      # whatever it is, the callers hear of it
            append.error = self._broker.report(error)
            _answer(calls, append)


def _answer(calls, append):
    if append.error is not None:
        for call in calls:
            call.fail(append.error)
    else:
        for offset, call in enumerate(calls, append.firsts[0]):
            call.succeed(offset)
