"""Frames of plain ZeroMQ messages, and the topics and payloads that they become; and back.

A payload of one frame is bytes, of several a list of bytes. A topic frame becomes a topic so that it can be read back:
what a topic cannot hold is written as ``%`` and two hex digits for each byte, ``%`` itself as ``%25``, and an
empty token is a ``%`` alone. A frame that is too long to be a topic is kept in front of the payload, under the
topic TOO_LONG.
"""

import json
import re

from ..errors import InvalidTopic
from ..topics import MAX_TOKENS, check_topic

TOO_LONG = "%too-long"

_KEPT = re.compile(r"[^\s\x00-\x1f\x7f-\x9f*>%\ud800-\udfff]+|.", re.DOTALL)
_ESCAPED = re.compile(rb"%([0-9A-F]{2})?")


def topic_of(frame, prefix=None):
    """Return the topic for a topic *frame* (bytes), below *prefix*; None if it is too long."""
    tokens = [_escaped(token) for token in frame.decode("utf-8", "surrogateescape").split(".")]
    whole = MAX_TOKENS - (len(prefix.split(".")) if prefix else 0)
    if len(tokens) > whole:
        tokens[whole - 1:] = ["%2E".join(tokens[whole - 1:])]
    topic = ".".join(tokens)
    if prefix:
        topic = f"{prefix}.{topic}"
    elif topic.startswith("$"):
        topic = f"%24{topic[1:]}"
    try:
        return check_topic(topic)
    except InvalidTopic:
        return None


def frame_of(topic, prefix=None):
    """Return the topic frame for *topic*: what :func:`topic_of` has made a topic of, without *prefix*."""
    if prefix and topic.startswith(f"{prefix}."):
        topic = topic[len(prefix) + 1:]
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"", topic.encode())


def to_publish(frames, topic, has_topic_frame):
    """Return the ``(topic, payload)`` of a message, bytes or a list of bytes, as a receiver has it."""
    frames = [frames] if isinstance(frames, bytes) else frames
    if not has_topic_frame:
        return topic, payload_of(frames)
    made = topic_of(frames[0], topic)
    if made is None:
        return f"{topic}.{TOO_LONG}" if topic else TOO_LONG, payload_of(frames)
    return made, payload_of(frames[1:])


def payload_of(frames):
    """Return what is published of *frames*: of none, empty bytes."""
    if len(frames) > 1:
        return list(frames)
    return frames[0] if frames else b""


def frames_of(payload):
    """Return the frames of a payload: bytes as they are, text as UTF-8, a list of bytes as frames, all else as JSON."""
    if isinstance(payload, bytes):
        return [payload]
    if isinstance(payload, str):
        return [payload.encode()]
    if isinstance(payload, list) and payload and all(isinstance(one, bytes) for one in payload):
        return payload
    return [json.dumps(payload, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace")]


def _plain(value):
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)


def _escaped(token):
    if not token:
        return "%"
    return "".join(part if len(part) > 1 or _is_kept(part) else _hex(part) for part in _KEPT.findall(token))


def _is_kept(character):
    return re.fullmatch(r"[^\s\x00-\x1f\x7f-\x9f*>%\ud800-\udfff]", character) is not None


def _hex(character):
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
