"""What an outbox keeps on disk, format 1, in a FifoStore: what each publish call brought, and two marks.

An item is msgpack: ``[1, microseconds since the epoch when it was published, topic, whether many were published
together, metadata or nil, [packed payload, ...]]``; in the metadata ``expires`` is a time to live. Marks:

* ``added``: how many messages were ever kept;
* ``sent``: ``[producer, sequence, calls, messages]``: the request with that sequence of that producer, which may be
  under way, has the first so many items; and so many messages are gone.

To change the format: give it the next number, and read both for one release.
"""

import os
from time import time
from typing import NamedTuple

import msgpack

from ... import errors
from ...errors import StoreCorrupt, StoreVersion
from ...message import Batch, Message

ADDED, SENT = "added", "sent"
FORMAT = 1
_VALUE_OVERHEAD = 4

_pack = msgpack.Packer(use_bin_type=True).pack


def pack_item(entry):
    """Return what is kept of *entry*, an Entry that is not settled."""
    return _pack((FORMAT, int(time() * 1e6), entry.topic, entry.many, entry.metadata, list(entry.values)))


class Record:
    """What one call published, as it was kept: to ``join`` and to a server's ``Limits`` the same as an Entry.

    Raises StoreCorrupt with a ``position``, as a FifoStore does where a message cannot be read; StoreVersion.
    """

    __slots__ = ("item", "time_us", "topic", "many", "metadata", "values", "count", "size", "place")

    def __init__(self, item):
        try:
            version, *fields = msgpack.unpackb(item)
        except Exception as error:      # msgpack raises several kinds
            raise StoreCorrupt(f"What was kept cannot be read: {error}.", position=None) from error
        if version != FORMAT:
            raise StoreVersion(f"An outbox of format {version}; this program reads {FORMAT}. Use the zstreampub that "
                               "wrote it.", version=version)
        self.time_us, self.topic, self.many, self.metadata, self.values = fields
        self.item = item
        self.count = len(self.values)
        self.size = len(item) + _VALUE_OVERHEAD * self.count
        self.place = None

    @property
    def has_ids(self):
        return bool(self.metadata) and "id" in self.metadata

    def age(self):
        """Have the time to live count from when it was published, not from when it is sent."""
        if self.metadata and "expires" in self.metadata:
            passed_us = max(int(time() * 1e6) - self.time_us, 0)
            ttls = [ttl_us and ttl_us - passed_us for ttl_us in Record(self.item).metadata["expires"]]
            self.metadata = {**self.metadata, "expires": ttls}

    def messages(self):
        """Return its messages as readers would have seen them; they have no offset."""
        columns = {**(self.metadata or {}), "expires": None}
        batch = Batch.assemble(self.topic, self.values, {name: column for name, column in columns.items() if column})
        seconds = self.time_us / 1e6
        return [Message(one.topic, None, seconds, one.payload, one.key, one.id, one.headers)
                for one in batch.messages()]


class Sent(NamedTuple):
    """The mark ``sent``."""

    producer: bytes
    sequence: int = 0
    calls: int = 0
    messages: int = 0

    @classmethod
    def of(cls, mark):
        """Return what the mark says; where no request is under way, with a new name.

        An outbox that was copied then never speaks in the name of another, whose requests would be taken for its own.
        """
        last = cls(*mark) if mark else cls(b"")
        return last if last.calls else cls(os.urandom(16), messages=last.messages)


def pack_refused(record, error):
    return _pack((FORMAT, int(time() * 1e6), type(error).__name__, str(error), record.item))


class Refused:
    """Something that the server refused for good: ``topic``, ``messages``, ``error`` (why), ``time`` (when)."""

    def __init__(self, packed):
        _, refused_us, name, reason, item = msgpack.unpackb(packed)
        record = Record(item)
        self.topic = record.topic
        self.messages = record.messages()
        self.error = (errors.by_name(name) or errors.ZStreamPubError)(reason)
        self.time = refused_us / 1e6

    def __repr__(self):
        return f"<Refused {self.topic} {len(self.messages)} messages: {self.error}>"
