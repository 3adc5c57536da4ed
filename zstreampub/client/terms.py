"""Publishes on terms (``expected_next``, ``delay_s``, ``at``, ``wait`` ...): a request for each.

What only concerns the message itself (its id, its time to live) travels in requests that many share.
Each names its producer and has a number, so that one that is sent again after a lost connection is stored once.
A producer has one publish under way at a time: the server remembers only its newest numbers, and
one that waits for an acknowledgement may be sent again when thousands of others are through.
"""

import os
from contextlib import contextmanager

WAIT_TIMEOUT_S = 30.0       # the server's, where a publish that waits does not say

_NAME_BYTES = 12


class Terms:
    """Names the publishes of one client."""

    def __init__(self):
        self._name = os.urandom(_NAME_BYTES)
        self._producers = 0
        self._idle = []         # (producer, next sequence)

    @contextmanager
    def options(self, metadata, terms):
        """Give the options of one publish, with a name that no other has until it is over."""
        producer, sequence = self._idle.pop() if self._idle else self._new_producer()
        given = {name: value for name, value in {**metadata, **terms}.items() if value is not None}
        try:
            yield {**given, "producer": producer, "sequence": sequence}
        finally:
            self._idle.append((producer, sequence + 1))

    def _new_producer(self):
        self._producers += 1
        return self._name + self._producers.to_bytes(4, "big"), 0

    @staticmethod
    def extra_s(terms):
        """Return how much longer than usual the answer may take, in seconds."""
        if terms.get("wait") in (None, "durable"):
            return 0.0
        timeout_s = terms.get("wait_timeout_s")
        return timeout_s if type(timeout_s) in (int, float) and timeout_s > 0 else WAIT_TIMEOUT_S
