"""A chain of filters in a program of one's own: behind a subscription, or before a store."""

import copy

from ..message import Message
from .memory import Memory
from .opened import OpenedMessage
from .words import Parsed


class Chain:
    """``chain(message)`` returns the message if it passes *filters*, else None; and None for None.

    *filters* is a map or a list of maps (docs/filters.rst); each sees what passed those before it. A message is a
    Message or Delivery, or any other value, which is taken for a payload that came now. With *path*, a directory, what
    ``min_period`` and ``every`` remember survives a restart (but needs none before a receiver's store, which keeps it);
    *durability* is ``"sync"`` or ``"relaxed"``. Any thread may call it, one at a time; with *path*, :meth:`close` it at
    the end. Raises InvalidOption, and StoreError for *path*.
    """

    def __init__(self, filters, path=None, *, durability="sync"):
        self._parsed = Parsed(filters)
        self._kept = None
        self._has_path = path is not None
        if self._has_path:
            from .kept import Kept  # lmdb is loaded only by who keeps something
            self._kept = Kept(path, Memory(self._parsed.rates), durability)

    def new_memory(self):
        """Return the Memory of it, for a store behind to keep; None if it remembers nothing, or keeps it by itself."""
        return None if self._has_path or not self._parsed.rates else Memory(self._parsed.rates)

    def __call__(self, message):
        if message is None:
            return None
        opened, places = OpenedMessage(message), _ONLY
        for stage in self._parsed.stages:
            places = stage.pick(opened, places)
            if not places:
                break
        if self._kept is not None:
            self._kept.save_soon()
        if not places:
            return None
        return _without_payload(message) if self._parsed.headers_only else message

    def close(self):
        """Write down what is remembered. Closing again does nothing."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            kept.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_ONLY = range(1)


def _without_payload(message):
    """A plain value has no headers, so nothing is left of it."""
    if not isinstance(message, Message):
        return None
    bare = copy.copy(message)
    bare.payload = None
    return bare
