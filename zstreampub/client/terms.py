"""Publishes on terms (``unique``, ``expected_next``, ``ttl_s``, ``delay_s``, ``at``, ``wait`` ...): a request for each.

Each names its producer and has a number, so that one that is sent again after a lost connection is stored once.
"""

import os
from itertools import count

WAIT_TIMEOUT_S = 30.0       # the server's, where a publish that waits does not say


class Terms:
    """Numbers the publishes of one client."""

    def __init__(self):
        self._producer = os.urandom(16)
        self._numbers = count()

    def options(self, metadata, terms):
        """Return the options of one publish."""
        given = {name: value for name, value in {**metadata, **terms}.items() if value is not None}
        return {**given, "producer": self._producer, "sequence": next(self._numbers)}

    @staticmethod
    def extra_s(terms):
        """Return how much longer than usual the answer may take, in seconds."""
        if terms.get("wait") in (None, "durable"):
            return 0.0
        timeout_s = terms.get("wait_timeout_s")
        return timeout_s if type(timeout_s) in (int, float) and timeout_s > 0 else WAIT_TIMEOUT_S
