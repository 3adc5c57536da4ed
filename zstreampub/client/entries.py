"""What one caller publishes, and how the publishes of many callers share one ``append`` request.

Everything is checked before it is packed together, so that a caller's mistake is an
error in that caller and in nobody else. Nothing here knows of a connection.
"""

from ..codecs import encode, encode_one
from ..compression import ZSTD
from ..errors import BatchTooLarge, InvalidOption, InvalidPayload
from ..message import Batch
from ..payload import METADATA_COLUMNS, check_message_size, content_id, pack_payload, pack_payloads, sizes_of
from ..topics import check_topic
from ..wire import pack
from .futures import Future

MAX_BATCHES = 1024          # in one append request: the protocol's limit
FRAME_BYTES = 512 * 1024    # a request is closed when it has this many; a larger one only if one caller wants it

BATCH_OVERHEAD = 300        # header, topic and framing, at the most
_VALUE_OVERHEAD = 4
_LONGEST_TTL_S = 1e9
_SLACK = 32 * 1024          # the server takes frames of 64 KiB more than its largest batch


class Entry(Future):
    """Some messages of one topic from one caller, in order; all or none of them are stored.

    It is also the future of its outcome: ``get(timeout=...)`` gives the offset, or ``(first, next)``
    where *many* were published at once, or raises. ``asked`` tells whether anybody did.
    One object, because a fast publisher has tens of thousands of them and each costs the garbage collector.
    """

    __slots__ = ("topic", "values", "count", "metadata", "size", "many", "request", "place", "patience",
                 "on_outcome", "sending")

    def __init__(self, topic, values, metadata, many):
        super().__init__()
        self.topic = topic
        self.values = values        # packed payloads, a list or Alike
        self.count = len(values)
        self.metadata = metadata    # column -> list, or None; "expires" counts from when it is sent
        self.many = many
        self.size = (sum(sizes_of(values)) if many else len(values[0])) + _VALUE_OVERHEAD * self.count
        if metadata:
            self.size += len(pack(metadata))
        self.asked = False
        self.request = None         # the one that it was sent in, or None
        self.place = None           # where in that request
        self.patience = None        # the Patience that it shares with others
        self.on_outcome = None      # called with the entry once it has its outcome
        self.sending = None         # through an outbox: the future of what the server says; ours is that of the disk

    def settle(self, value, error=None):
        """Tell the caller the outcome; only the first counts."""
        if self.ready():
            return
        self.values = self.metadata = None
        if error is None:
            self.set(value)
        else:
            self.set_exception(error)
        patience = self.patience
        if patience is not None:
            patience.left -= 1
            if not patience.left:
                patience.end()
        if self.on_outcome is not None:
            self.on_outcome(self)


class Limits:
    """What the server takes, as its ``about()`` says."""

    def __init__(self, about=None):
        about = about if isinstance(about, dict) else {}
        self.max_message_bytes = _limit(about, "max_message_bytes", 1 << 20)
        self.max_batch_messages = _limit(about, "max_batch_messages", 1 << 16)
        self.max_batch_bytes = _limit(about, "max_batch_bytes", 1 << 24)
        self.frame_bytes = min(FRAME_BYTES, self.max_batch_bytes)
        compressions = about.get("compressions")
        self.takes_zstd = type(compressions) is list and ZSTD in compressions

    def check(self, entry):
        """Raise MessageTooLarge or BatchTooLarge if the server would not take *entry*."""
        check_message_size(max(sizes_of(entry.values)) if entry.many else len(entry.values[0]), self.max_message_bytes)
        if entry.size > self.max_batch_bytes + _SLACK or entry.count > self.max_batch_messages * MAX_BATCHES:
            raise BatchTooLarge(f"What is published at once has at most {self.max_batch_bytes} bytes packed, this has "
                                f"about {entry.size}. Publish it in parts, or raise max_batch_bytes on the server.",
                                size=entry.size, limit=self.max_batch_bytes)


def single(topic, payload, headers=None, key=None, id=None, unique=None, ttl_s=None, content_type=None):
    """Return the Entry of one message. Raises InvalidTopic, InvalidPayload, InvalidOption."""
    check_topic(topic)
    if content_type is not None:
        payload, headers = encode_one(payload, headers, content_type)
    values, metadata = (pack_payload(payload),), None
    if headers is not None or key is not None or id is not None or unique is not None or ttl_s is not None:
        keys, ids, maps = (None if value is None else [value] for value in (key, id, headers))
        metadata = _metadata(topic, values, keys, ids, maps, unique, ttl_s)
    return Entry(topic, values, metadata, False)


def several(topic, payloads, headers=None, keys=None, ids=None, unique=None, ttl_s=None, content_type=None):
    """Return the Entry of a list of messages; *headers* is one map for all or a list of maps.

    Raises InvalidTopic, InvalidPayload, InvalidOption.
    """
    check_topic(topic)
    payloads = list(payloads)
    if not payloads:
        raise InvalidPayload("There is nothing to publish: the list of payloads is empty.")
    if content_type is not None:
        payloads, headers = encode(payloads, headers, content_type)
    if isinstance(headers, dict):
        headers = [headers] * len(payloads)
    values = pack_payloads(payloads)
    return Entry(topic, values, _metadata(topic, values, keys, ids, headers, unique, ttl_s), True)


def join(entries, limits, now_us=0):
    """Return packed batches of all *entries*, in order; sets the ``place`` of each. *now_us* is the server's time.

    Neighbours with the same topic share a batch. A place is ``(batch, start, last batch, stop)``:
    the first message is number *start* of one batch, the one after the last is *stop* of another.
    """
    batches: list = []
    run, count, size = [entries[0]], entries[0].count, entries[0].size
    for entry in entries[1:]:
        count += entry.count
        size += entry.size
        if entry.topic == run[0].topic and count <= limits.max_batch_messages and size < limits.max_batch_bytes:
            run.append(entry)
        else:
            _pack_run(run, limits, batches, now_us)
            run, count, size = [entry], entry.count, entry.size
    _pack_run(run, limits, batches, now_us)
    return batches


def _pack_run(run, limits, batches, now_us):
    """Pack the entries of *run*, which have one topic: into one batch, or several if it is a single large entry."""
    values, metadata, most = run[0].values, run[0].metadata, limits.max_batch_messages
    if len(run) > 1:
        values = [value for entry in run for value in entry.values]
        metadata = _join_metadata(run)
    if metadata and "expires" in metadata:
        expires = [None if ttl_us is None else now_us + ttl_us for ttl_us in metadata["expires"]]
        metadata = {**metadata, "expires": expires}
    at = len(batches)
    for start in range(0, len(values), most):
        part = metadata and {name: column[start:start + most] for name, column in metadata.items()}
        # The values are packed and checked already; Batch.of would do both again.
        batches.append(Batch.assemble(run[0].topic, values[start:start + most], part).packed)
    if len(run) == 1:
        run[0].place = (at, 0, len(batches) - 1, len(values) - (len(batches) - 1 - at) * most)
        return
    start = 0
    for entry in run:
        stop = start + entry.count
        entry.place = (at, start, at, stop)
        start = stop


def _join_metadata(run):
    names = {name for entry in run if entry.metadata for name in entry.metadata}
    return {name: [value for entry in run
                   for value in (entry.metadata or {}).get(name) or [None] * entry.count] for name in names}


def _metadata(topic, values, keys, ids, headers, unique, ttl_s):
    """Return the checked columns, which their giver cannot change any more; None if there are none."""
    if unique is not None and unique is not False:
        ids = _content_ids(unique, ids, values)
    ttls = None if ttl_s is None else [_ttl_us(ttl_s)] * len(values)
    columns = zip(METADATA_COLUMNS, (keys, ids, headers, ttls))
    metadata = {name: list(column) for name, column in columns if column is not None}
    if not metadata:
        return None
    Batch.of(topic, [None] * len(values), *(metadata.get(name) for name in METADATA_COLUMNS))
    if "headers" in metadata:
        metadata["headers"] = [headers and dict(headers) for headers in metadata["headers"]]
    return metadata


def _content_ids(unique, ids, values):
    if unique != "content" or ids is not None:
        raise InvalidOption("unique is 'content', without an id: the payload makes the id.", option="unique")
    return [content_id(value) for value in values]


def _ttl_us(ttl_s):
    if type(ttl_s) not in (int, float) or not 0.001 <= ttl_s <= _LONGEST_TTL_S:
        raise InvalidOption(f"ttl_s is a number of seconds from 0.001 to {_LONGEST_TTL_S:.0f}, not {ttl_s!r:.60}.",
                            option="ttl_s")
    return int(ttl_s * 1e6)


def _limit(about, name, default):
    value = about.get(name)
    return value if type(value) is int and value > 0 else default
