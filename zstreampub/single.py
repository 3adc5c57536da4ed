"""Message: one message as a reader sees it, and the map that a stock client gets of it."""

import msgpack

from .codecs import HEADER as CONTENT_TYPE
from .codecs import decode
from .payload import METADATA_COLUMNS, Undecodable, can_be_carried

# Why a payload cannot be read, by the ``error`` of its map.
REASONS = {"InvalidPayload": "The payload is no msgpack value.",
           "StoreCorrupt": "The batch it came in does not fit its checksum: the server's store is damaged."}

_pack = msgpack.Packer(use_bin_type=True).pack


class Message:
    """One message as a reader sees it.

    ``offset`` is its position in the log, ``time`` seconds since the epoch (float),
    ``headers`` a dict or None, ``key`` and ``id`` text, bytes or None, ``expires`` seconds
    since the epoch (float) or None.
    """

    __slots__ = ("topic", "offset", "time", "payload", "key", "id", "headers", "expires")

    def __init__(self, topic, offset, time, payload, key=None, id=None, headers=None, expires=None):
        self.topic = topic
        self.offset = offset
        self.time = time
        self.payload = payload
        self.key = key
        self.id = id
        self.headers = headers
        self.expires = expires

    @classmethod
    def of_map(cls, fields):
        """Return the message of which a server's map tells, its payload decoded by its content type."""
        payload, headers = fields["payload"], fields.get("headers")
        error = fields.get("error")
        if error in REASONS:
            payload = Undecodable(payload, REASONS[error], error)
        elif headers:
            payload = decode(payload, headers.get(CONTENT_TYPE))
        return cls(fields["topic"], fields["offset"], fields["time"], payload, fields.get("key"), fields.get("id"),
                   headers, fields.get("expires"))

    @property
    def content_type(self):
        """How the payload was written, as its header ``content-type`` says; None: as msgpack, the default."""
        return self.headers.get(CONTENT_TYPE) if self.headers else None

    def as_map(self):
        """Return the form that a stock zerorpc client gets, a dict without the unset fields. The payload is as here."""
        fields = {"topic": self.topic, "offset": self.offset, "time": self.time, "payload": self.payload}
        for name in METADATA_COLUMNS:
            value = getattr(self, name)
            if value is not None:
                fields[name] = value
        if isinstance(self.payload, Undecodable):
            fields.update(payload=self.payload.raw, error=self.payload.error)
        return fields

    def __repr__(self):
        return f"<Message {self.offset} {self.topic} {self.payload!r:.60}>"

    def __eq__(self, other):
        return isinstance(other, Message) and self.as_map() == other.as_map()


def packed_maps(batch):
    """Return the messages of *batch* as packed maps; what needs no decoding is not decoded."""
    if not batch.is_sound:
        return list(map(_pack, batch.maps()))
    head = _pack("topic") + _pack(batch.topic) + _pack("time") + _pack(batch.time) + _pack("offset")
    columns = batch.shown_columns()
    items = []
    for at, raw in enumerate(batch.raw_payloads):
        extra = {name: column[at] for name, column in columns.items() if column[at] is not None}
        if not can_be_carried(raw):
            extra["error"] = "InvalidPayload"
            raw = _pack(raw)
        tail = b"".join(_pack(name) + _pack(value) for name, value in extra.items())
        items.append(b"".join((bytes((0x84 + len(extra),)), head, _pack(batch.first + at),
                               b"\xa7payload", raw, tail)))
    return items
