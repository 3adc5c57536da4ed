"""What changes in a table, as somebody watches it: bounded, and the newest of each key only."""

from typing import Any, NamedTuple

from gevent.event import Event

from ..errors import RequestTimeout, SlowConsumer

MAX_PENDING = 10_000


class Change(NamedTuple):
    """What became of one key: ``value`` is None if it was deleted, ``old`` is None if it was not there."""

    key: Any
    value: Any
    old: Any
    offset: int


class Watch:
    """Iterate for changes, in the order of the log; made by ``Table.watch``.

    If a key changes again before that was read, both are told as one change. With more than *max_pending* keys
    that wait to be read, the watch ends with SlowConsumer.
    """

    def __init__(self, run, watches, max_pending):
        self._run = run
        self._watches = watches
        self._max_pending = max_pending
        self._changes = {}
        self._ready = Event()
        self._ended = False
        self._error = None

    def __iter__(self):
        return self

    def __next__(self):
        change = self.get()
        if change is None:
            raise StopIteration
        return change

    def get(self, timeout_s=None):
        """Return the next :class:`Change`, None when the table is closed. Raises RequestTimeout."""
        return self._run(lambda: self._get(timeout_s), self._put_back)

    def close(self):
        """Stop watching."""
        self._run(self.end)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- on the hub ----------------------------------------------------------------------------

    def put(self, change):
        """Take note of *change*; never wait."""
        earlier = self._changes.pop(change.key, None)
        if earlier is not None:
            change = change._replace(old=earlier.old)
            if change.value is None and change.old is None:
                return      # it came and went
        self._changes[change.key] = change
        self._ready.set()
        if len(self._changes) > self._max_pending:
            self._changes.clear()
            self.end(SlowConsumer(f"More than {self._max_pending} keys have changed and were not read. Read faster, or "
                                  "watch with a larger max_pending."))

    def end(self, error=None):
        """End it, after what is there."""
        self._watches.discard(self)
        if not self._ended:
            self._ended, self._error = True, error
        self._ready.set()

    def _get(self, timeout_s):
        while not self._changes:
            if self._ended:
                if self._error is not None:
                    raise type(self._error)(str(self._error), **self._error.facts)
                return None
            self._ready.clear()
            if not self._ready.wait(timeout_s):
                raise RequestTimeout(f"Nothing has changed within {timeout_s} s.", timeout_s=timeout_s)
        return self._changes.pop(next(iter(self._changes)))

    def _put_back(self, change):
        if change is not None and change.key not in self._changes:
            self._changes = {change.key: change, **self._changes}
            self._ready.set()
