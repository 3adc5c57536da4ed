"""A table: a topic seen as a mapping, the newest value of each key.

Reading is a look into memory, which holds all live keys and values; it never waits. Writing publishes,
and returns when the change is on disk and has come back into the own view: whoever
writes reads what it wrote. docs/queues.rst says what the topic needs.
"""

from collections.abc import MutableMapping

from ..errors import InvalidPayload, NextMismatch
from ..payload import pack_payload
from .view import View
from .watch import MAX_PENDING, Change, Watch

_CHUNK = 1000       # keys that are written as one batch


class Table(MutableMapping):
    """The mapping; made by ``Client.table``, ``Broker.table`` and ``ThreadBroker.table``.

    Keys are text or bytes, values are whatever a payload can be, but not None: that is how a key is
    deleted. A value must not be changed in place. Iterating goes over the keys as they are at the start.
    *timeout_s* is how long a change may take to come back.
    """

    def __init__(self, port, topic, *, timeout_s=30.0):
        self.topic = topic
        self._port = port
        self._timeout_s = timeout_s
        self._view = View(port, topic)
        port.run(self._view.load, lambda _: self._view.close())

    # --- reading -------------------------------------------------------------------------------

    def __getitem__(self, key):
        return self._entries[key].value

    def __contains__(self, key):
        return key in self._entries

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        return iter(list(self._entries))

    def items(self):
        """Return the keys and values of this moment."""
        return self._copy().items()

    def values(self):
        """Return the values of this moment."""
        return self._copy().values()

    def offset(self, key):
        """Return the offset of the message that has set *key*, None if there is no such key."""
        entry = self._entries.get(key)
        return None if entry is None else entry.offset

    @property
    def position(self):
        """The offset up to which the log is in the view."""
        return self._view.position

    # --- writing -------------------------------------------------------------------------------

    def __setitem__(self, key, value):
        self._write({key: value})

    def __delitem__(self, key):
        if key not in self._entries:
            raise KeyError(key)
        self._port.run(lambda: self._publish([key], [None]))

    def update(self, other=(), /, **more):
        """Set many keys, a thousand at a time: each thousand is stored all or none."""
        self._write({**dict(other), **more})

    def clear(self):
        """Delete all keys."""
        keys = list(self._entries)
        for at in range(0, len(keys), _CHUNK):
            some = keys[at:at + _CHUNK]
            self._port.run(lambda some=some: self._publish(some, [None] * len(some)))

    def compare_and_set(self, key, value, offset):
        """Set *key* if it is still as :meth:`offset` said, None: not there; return whether it was.

        *value* None deletes it. Whoever else writes at the same moment, from wherever, only one gets True.
        """
        _check(key)
        return self._port.run(lambda: self._compare_and_set(key, value, offset))

    def setdefault(self, key, default=None):
        """Return the value of *key*; set it to *default* first if it is not there, and nobody else does."""
        while True:
            entry = self._entries.get(key)
            if entry is not None:
                return entry.value
            _check_value(default)
            self.compare_and_set(key, default, None)

    def _write(self, values):
        for key, value in values.items():
            _check(key)
            _check_value(value)
        pairs = list(values.items())
        for at in range(0, len(pairs), _CHUNK):
            keys, some = zip(*pairs[at:at + _CHUNK])
            self._port.run(lambda keys=keys, some=some: self._publish(list(keys), list(some)))

    # --- watching ------------------------------------------------------------------------------

    def watch(self, *, initial=False, max_pending=MAX_PENDING):
        """Return a :class:`~zstreampub.views.watch.Watch`: iterate it for changes from now on.

        *initial*: first, what is there now, as if it was just set.
        """
        return self._port.run(lambda: self._watch(initial, max_pending))

    def close(self):
        """Stop following the topic; who watches is told the end. The table cannot be used any more."""
        self._port.run(self._view.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<Table {self.topic} of {len(self._view.entries)} keys>"

    # --- on the hub ------------------------------------------------------------------------------

    def _publish(self, keys, values, **terms):
        self._view.check()
        if len(keys) == 1:
            next = self._port.log.publish(self.topic, values[0], key=keys[0], **terms) + 1
        else:
            _, next = self._port.log.publish_many(self.topic, values, keys=keys)
        self._view.wait_for(next, self._timeout_s)

    def _compare_and_set(self, key, value, offset):
        view = self._view
        while True:
            view.check()
            entry = view.entries.get(key)
            if (None if entry is None else entry.offset) != offset:
                return False
            try:
                self._publish([key], [value], expected_next=view.topic_next)
                return True
            except NextMismatch as mismatch:
                self._catch_up(self._port.next_in(mismatch))

    def _catch_up(self, next):
        """See what others have written below *next*; it may be that the newest of it is gone from the log."""
        self._view.wait_for(next, self._timeout_s)
        self._view.topic_next = max(self._view.topic_next, next)

    def _watch(self, initial, max_pending):
        view = self._view
        view.check()
        watch = Watch(self._port.run, view.watches, max_pending + len(view.entries) if initial else max_pending)
        view.watches.add(watch)
        if initial:
            for key, entry in view.entries.items():
                watch.put(Change(key, entry.value, None, entry.offset))
        return watch

    # --- the rest ------------------------------------------------------------------------------

    @property
    def _entries(self):
        self._view.check()
        return self._view.entries

    def _copy(self):
        return {key: entry.value for key, entry in self._entries.copy().items()}


def _check(key):
    if not isinstance(key, (str, bytes)):
        raise InvalidPayload(f"A key of a table is text or bytes, not {type(key).__name__}.")


def _check_value(value):
    if value is None:
        raise InvalidPayload("A table keeps no None: that is how a key is deleted. Use del, or another value.")
    pack_payload(value)
