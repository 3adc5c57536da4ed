"""What a client may ask, checked: the arguments of a call turned into the broker's terms.

The service and the lane both use these, so that a call means the same on either way.
A wrong argument is a RequestError that says what would be right; nothing is ignored.
"""

import inspect
import time
from collections.abc import Callable
from typing import NamedTuple

from . import steering
from .checks import check_options
from .compression import MAX_PLAIN_BYTES, ZSTD, ExtType
from .errors import InvalidBatch, InvalidOption, MalformedRequest
from .filters.words import filters_of_a_member
from .message import Batch
from .publishing import TERMS, Order, check_may_publish, parse_terms, publish_many_result, publish_result
from .store import Append

MAX_BATCHES = 1024      # in one append: the fan-out of one commit must not hold the hub for long
MAX_PRODUCER_BYTES = 64

_CLOCKS = ("deadline", time.time), ("deadline_clock", time.monotonic)
_RETRY_OPTIONS = ("producer", "sequence", "deadline", "deadline_clock")
_PUBLISH_OPTIONS = ("headers", "key", "id", *TERMS, *_RETRY_OPTIONS)
_PUBLISH_MANY_OPTIONS = ("headers", "keys", "ids", *TERMS, *_RETRY_OPTIONS)
_SUBSCRIBE_OPTIONS = ("start", "until", "epoch", "policy", "max_messages", "max_bytes", "block_timeout_s",
                      "format", "compression", "name", "filters", "movable", "consumer")
FORMATS = ("map", "batch")


def parse_publish(broker, topic, payload, options=None):
    """Return the Order of one ``publish`` call."""
    options = check_options(options, _PUBLISH_OPTIONS)
    columns = {name: [options[name]] for name in ("headers", "key", "id") if options.get(name) is not None}
    order = broker.order(publish_result, topic, [payload], columns.get("key"), columns.get("id"),
                         columns.get("headers"), parse_terms(options, "id" in columns))
    return _identified(order, options)


def parse_publish_many(broker, topic, payloads, options=None):
    """Return the Order of one ``publish_many`` call."""
    options = check_options(options, _PUBLISH_MANY_OPTIONS)
    for name in ("keys", "ids"):
        if not isinstance(options.get(name), (list, tuple, type(None))):
            raise InvalidOption(f"{name} is a list with one entry or nil for each payload.", option=name)
    if not isinstance(options.get("headers"), (dict, list, tuple, type(None))):
        raise InvalidOption("headers is a map for all messages, or a list with one map or nil for each.",
                            option="headers")
    order = broker.order(publish_many_result, topic, payloads, options.get("keys"), options.get("ids"),
                         options.get("headers"), parse_terms(options, options.get("ids") is not None))
    return _identified(order, options)


def parse_append(broker, batches, options=None):
    """Return the Order of one ``append`` call: packed batches of a stranger, checked one by one."""
    options = check_options(options, _RETRY_OPTIONS)
    if not isinstance(batches, (list, tuple)) or not 0 < len(batches) <= MAX_BATCHES:
        raise InvalidBatch(f"append takes a list of 1 to {MAX_BATCHES} packed batches.")
    checked = _checked(broker, batches)
    for batch in checked:
        check_may_publish(batch.topic)
    return _identified(Order(Append(checked), append_result), options)


def _checked(broker, parts):
    """Return the batches of *parts*, each packed or compressed."""
    limits, room, checked = broker.settings, MAX_PLAIN_BYTES, []
    for packed in parts:
        squeezed = None
        if type(packed) is ExtType:
            if broker.zstd is None:
                raise InvalidBatch("This server takes no compressed batches: see 'compressions' in about().")
            packed, squeezed = broker.zstd.unpack(packed, min(room, limits.max_batch_bytes))
            room -= len(packed)
        batch = Batch.check(packed, limits.max_message_bytes, limits.max_batch_messages)
        if squeezed is not None and len(squeezed) < batch.size:
            batch.squeezed = squeezed
        checked.append(batch)
    return checked


def append_result(append):
    """Return what ``append`` answers: the first offset of each batch."""
    return append.firsts


class Publishing(NamedTuple):
    """One way to publish: arguments to Order, least and most arguments."""

    parse: Callable
    least: int
    most: int


PUBLISHING = {
    "publish": Publishing(parse_publish, 2, 3),
    "publish_many": Publishing(parse_publish_many, 2, 3),
    "append": Publishing(parse_append, 1, 2),
}


def parse_publishing(name, broker, args):
    """Return the Order of a call of one of PUBLISHING."""
    parse, least, most = PUBLISHING[name]
    if not isinstance(args, (list, tuple)) or not least <= len(args) <= most:
        raise MalformedRequest(f"{name} takes {least} to {most} arguments: see docs/protocol.rst.")
    return parse(broker, *args)


def parse_subscribe(patterns=None, options=None):
    """Return ``(format, keyword arguments of Broker.subscribe)`` of one ``subscribe`` call.

    The format is ``map``, ``batch``, or ``batch+zstd`` where batches may be compressed so.
    """
    joins = isinstance(options, dict) and options.get("consumer") is not None
    if joins and options.get("filters") is not None:
        raise filters_of_a_member()
    options = check_options(options, steering.JOIN_OPTIONS if joins else _SUBSCRIBE_OPTIONS)
    form = options.pop("format", "map")
    if form not in FORMATS:
        raise InvalidOption(f"format is one of {', '.join(FORMATS)}, not {form!r:.60}.", option="format")
    readable = options.pop("compression", None) or ()
    if not isinstance(readable, (list, tuple)) or (readable and form != "batch"):
        raise InvalidOption("compression is a list of what the client can read, such as ['zstd'], with format 'batch'.",
                            option="compression")
    if ZSTD in readable:
        form = f"{form}+{ZSTD}"
    name = options.get("name")
    if name is not None and not (isinstance(name, str) and len(name) <= 255):
        raise InvalidOption("name is text of at most 255 characters.", option="name")
    if not isinstance(options.get("movable"), (bool, type(None))):
        raise InvalidOption("movable is true or false: whether this client can subscribe at another endpoint.",
                            option="movable")
    options = {name: value for name, value in options.items() if value is not None}
    return form, {"patterns": patterns, **options}


SUBSCRIBE_SIGNATURE = inspect.signature(parse_subscribe)


def check_arguments(signature, args):
    """Raise MalformedRequest unless *args* is a list that fits *signature*."""
    if not isinstance(args, (list, tuple)):
        raise MalformedRequest("The arguments of a call are a list.")
    try:
        signature.bind(*args)
    except TypeError as error:
        raise MalformedRequest(f"The arguments are {signature}: {error}.") from None


def _identified(order, options):
    """Return *order*, with who published it and until when it may be stored."""
    append = order.append
    producer, sequence = options.get("producer"), options.get("sequence")
    if (producer is None) != (sequence is None):
        raise InvalidOption("producer and sequence go together.")
    if producer is not None:
        producer = producer.encode() if isinstance(producer, str) else producer
        if not isinstance(producer, bytes) or not 0 < len(producer) <= MAX_PRODUCER_BYTES:
            raise InvalidOption(f"producer is text or bytes, 1 to {MAX_PRODUCER_BYTES} bytes.", option="producer")
        if isinstance(sequence, float) and sequence.is_integer():
            sequence = int(sequence)
        if type(sequence) is not int or not 0 <= sequence < 1 << 63:
            raise InvalidOption("sequence is an integer from 0 to 2**63 - 1.", option="sequence")
        append.producer, append.sequence = producer, sequence
    append.deadline = _deadline(options)
    return order


def _deadline(options):
    """Return when the request is late, in ``time.monotonic()`` seconds, or None.

    ``deadline`` is by the calendar; ``deadline_clock`` by the clock that ``about()`` tells, which no
    correction of the time of day, here or at the client, can move.
    """
    deadlines = []
    for name, clock in _CLOCKS:
        value = options.get(name)
        if value is not None:
            if type(value) not in (int, float) or not 0 <= value < 1e11:
                raise InvalidOption(f"{name} is in seconds: see docs/protocol.rst.", option=name)
            deadlines.append(time.monotonic() + value - clock())
    return min(deadlines, default=None)
