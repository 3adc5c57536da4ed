"""Items: a received message as the bytes that a store keeps, and back.

An item is a tag and what follows it. Bytes stay as they are, whatever the codec; a Message
is kept whole, and what comes back is a :class:`Message`, also of a Delivery.
"""

import msgpack

from ..errors import InvalidOption, InvalidPayload, MessageTooLarge, StoreCorrupt
from ..message import Message
from ..payload import Undecodable, pack_payload

MAX_MESSAGE_BYTES = 64 << 20

_BYTES, _VALUE, _MESSAGE, _UNDECODABLE = b"\0", b"\1", b"\2", b"\3"
_pack = msgpack.Packer(use_bin_type=True).pack


class MsgpackCodec:
    """The codec of who names none: what zerorpc can carry."""

    dumps = staticmethod(pack_payload)
    loads = staticmethod(msgpack.unpackb)


class Items:
    """Packs and unpacks with *codec*: an object or module with ``dumps(value)`` and ``loads(bytes)``."""

    def __init__(self, codec=None):
        codec = MsgpackCodec if codec is None else codec
        if not callable(getattr(codec, "dumps", None)) or not callable(getattr(codec, "loads", None)):
            raise InvalidOption(f"codec has dumps(value) and loads(bytes), as the module json has; {codec!r:.60} has "
                                "not.", option="codec")
        self._dumps = codec.dumps
        self._loads = codec.loads

    def pack(self, message):
        """Return *message* as bytes. Raises InvalidPayload for what the codec cannot write."""
        if type(message) is bytes:
            return _BYTES + message
        if isinstance(message, Message):
            return _MESSAGE + self._pack_message(message)
        return self._pack_value(message)

    def pack_many(self, messages):
        """Return :meth:`pack` of each, without those that are None."""
        if set(map(type, messages)) == {bytes}:
            return list(map(_BYTES.__add__, messages))
        return [self.pack(message) for message in messages if message is not None]

    def _pack_value(self, value):
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _BYTES + bytes(value)
        if isinstance(value, Undecodable):
            return _UNDECODABLE + _pack((value.raw, value.reason))
        try:
            packed = self._dumps(value)
            return _VALUE + (packed.encode() if isinstance(packed, str) else packed)
        except InvalidPayload:
            raise
        except Exception as error:      # whatever a codec raises
            raise InvalidPayload(f"The codec cannot write this {type(value).__name__}: {error}.") from error

    def _pack_message(self, message):
        fields = [message.topic, message.offset, message.time, self._pack_value(message.payload),
                  message.key, message.id, message.headers, message.expires]
        while fields[-1] is None:
            fields.pop()
        try:
            return _pack(fields)
        except Exception as error:      # msgpack raises several kinds
            raise InvalidPayload(f"{message!r} cannot be kept: {error}.") from error

    def unpack(self, item, position):
        """Return the message in *item*. Raises StoreCorrupt, which names *position*, if it does not decode."""
        try:
            return self._unpack(item)
        except Exception as error:      # whatever a codec raises
            raise StoreCorrupt(f"The message at position {position} does not decode ({type(error).__name__}: {error}). "
                               "pop_front() removes it; was the store written with another codec?",
                               position=position) from error

    def unpack_many(self, items, position):
        """Return the messages in *items*, from *position* on, up to one that does not decode; if it is first, raise."""
        if {item[:1] for item in items} == {_BYTES}:
            return [item[1:] for item in items]
        messages = []
        try:
            for item in items:
                messages.append(self.unpack(item, position + len(messages)))
        except StoreCorrupt:
            if not messages:
                raise
        return messages

    def _unpack(self, item):
        tag, content = item[:1], item[1:]
        if tag == _BYTES:
            return content
        if tag == _VALUE:
            return self._loads(content)
        if tag == _UNDECODABLE:
            return Undecodable(*msgpack.unpackb(content))
        if tag != _MESSAGE:
            raise ValueError("it is no message" if tag else "its record is damaged")
        topic, offset, time, payload, *metadata = msgpack.unpackb(content)
        return Message(topic, offset, time, self._unpack(payload), *metadata)


def check_sizes(items, max_bytes):
    """Raise MessageTooLarge if one of *items* never fits into a store of *max_bytes* (None: no bound)."""
    limit = MAX_MESSAGE_BYTES if max_bytes is None else min(MAX_MESSAGE_BYTES, max_bytes)
    largest = max(map(len, items), default=0)
    if largest > limit:
        raise MessageTooLarge(f"A message in this store has at most {limit} bytes, this one has {largest}. "
                              "Split it, or raise max_bytes.", size=largest, limit=limit)
