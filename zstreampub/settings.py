"""Every tunable of the server side: its default, its unit, what it is for.

Each can be set in Python (``Settings(max_message_bytes=...)``), on the command
line (``--max-message-bytes``), in the environment (``ZSTREAMPUB_MAX_MESSAGE_BYTES``)
and in the configuration file (``max_message_bytes = ...``).
"""

from dataclasses import dataclass, field, fields

from .errors import InvalidOption

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def _setting(default, text, least=0, most=None):
    return field(default=default, metadata={"text": text, "least": least, "most": most})


@dataclass(frozen=True)
class Settings:
    # --- messages
    max_message_bytes: int = _setting(1 * MIB, "largest payload of one message, packed", 1, 64 * MIB)
    max_batch_messages: int = _setting(65_536, "most messages in one batch", 1, 1 << 17)
    max_batch_bytes: int = _setting(16 * MIB, "largest batch, packed", 1 * KIB, 90 * MIB)
    max_topics: int = _setting(100_000, "most topics in the log", 1)
    max_pending_bytes: int = _setting(64 * MIB, "publishes that wait for the disk, in all", 1 * KIB)

    # --- subscriptions
    max_subscriptions: int = _setting(20_000, "subscriptions in all", 1)
    max_subscriptions_per_client: int = _setting(5_000, "subscriptions of one connection", 1)
    max_patterns: int = _setting(256, "patterns of one subscription", 1)
    queue_messages: int = _setting(10_000, "messages in a subscription's queue, where it does not say", 1)
    queue_bytes: int = _setting(4 * MIB, "bytes in a subscription's queue, where it does not say", 1)
    max_queue_messages: int = _setting(1_000_000, "most messages that a subscription may ask for", 1)
    max_queue_bytes: int = _setting(64 * MIB, "most bytes that a subscription may ask for", 1)
    policy: str = _setting("spill", "what a full queue does, where the subscription does not say")
    block_timeout_s: float = _setting(5.0, "'block' holds a publisher this long, where the subscription does not say")
    max_block_timeout_s: float = _setting(60.0, "longest block_timeout_s that a subscription may ask for")
    keepalive_s: float = _setting(10.0, "a silent subscription is sent a keepalive this often", 0.01)

    # --- consumers
    max_consumers: int = _setting(10_000, "durable consumers in all", 1)
    member_in_flight: int = _setting(256, "unacknowledged messages at one member, where it does not say", 1)
    max_member_in_flight: int = _setting(100_000, "most that a member may ask for", 1)
    consumer_pending: int = _setting(100_000, "unacknowledged messages of a consumer, where it does not say", 1)
    max_consumer_pending: int = _setting(2_000_000, "most that a consumer may ask for", 1)
    ack_wait_s: float = _setting(30.0, "an unacknowledged message is delivered again after this long, "
                                       "where the consumer does not say", 0.01)
    max_deliveries: int = _setting(10, "deliveries before a message becomes a dead letter, "
                                       "where the consumer does not say; 0: no limit", 0)
    max_dead: int = _setting(10_000, "dead letters that pause a consumer, where it does not say", 1)
    rejoin_grace_s: float = _setting(10.0, "after a restart, members have this long to come back for what they hold")

    # --- publishing once
    id_window_messages: int = _setting(100_000, "ids of messages that are remembered to store each once", 0)
    id_window_s: float = _setting(3600.0, "how long an id is remembered, if id_window_messages allows")
    max_scheduled: int = _setting(1_000_000, "messages that wait for their time (delay_s, at)", 0)

    # --- store
    durability: str = _setting("sync", "'sync', or 'relaxed': a power cut may take back the last commit")
    max_store_bytes: int = _setting(64 * GIB, "size that the store's map may grow to", 1 * MIB)
    retention: tuple = _setting((), "retention rules, first match counts: (Retention(pattern, ...), ...)")
    retention_interval_s: float = _setting(1.0, "retention looks this often", 0.01)
    keep_factor: float = _setting(4.0, "how many times a retention limit may grow for a consumer's sake", 1)
    keep_over: str = _setting("gap", "then: 'gap' (remove, and tell the consumer) or 'refuse' (to publish)")
    tombstone_s: float = _setting(86_400.0, "how long the deletion of a key is kept under newest_per_key")
    max_producers: int = _setting(10_000, "producers whose last sequences are remembered", 1)

    # --- server
    heartbeat_s: float = _setting(5.0, "heartbeat of every channel; a peer is lost after two missed ones", 0.05)
    max_credit: int = _setting(1_000, "most stream items in flight to one subscription, whatever it grants", 10)
    drain_timeout_s: float = _setting(5.0, "longest that a draining server waits for its streams and publishes")

    def __post_init__(self):
        for one in fields(self):
            _check(one, getattr(self, one.name))
        for name, ceiling in (("queue_messages", "max_queue_messages"), ("queue_bytes", "max_queue_bytes"),
                              ("block_timeout_s", "max_block_timeout_s")):
            if getattr(self, name) > getattr(self, ceiling):
                raise InvalidOption(f"{name} is {getattr(self, name)}, over {ceiling}, which is "
                                    f"{getattr(self, ceiling)}. Lower the one or raise the other.", option=name)


@dataclass(frozen=True)
class Retention:
    """What is kept of the topics that match *pattern*, all of them together; None means no limit.

    A topic follows the first rule whose pattern matches it. The oldest go first. With
    ``newest_per_key`` a message goes, in time, once there is a newer one with its key, and a
    message whose payload is None deletes its key. What a consumer with ``retention="keep"``
    has not acknowledged stays, see ``keep_factor``; ``newest_per_key`` alone sets no limit
    of which that could be a multiple.
    """

    pattern: str = ">"
    max_age_s: "float | None" = None
    max_bytes: "int | None" = None
    max_messages: "int | None" = None
    newest_per_key: bool = False


def _check(one, value):
    kind = type(one.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        kind = int
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidOption(f"{one.name} is {kind.__name__}, not {value!r}.", option=one.name)
    if kind in (int, float):
        least, most = one.metadata["least"], one.metadata["most"]
        if value < least or (most is not None and value > most) or value != value:
            raise InvalidOption(f"{one.name} is at least {least}{f' and at most {most}' if most else ''}, not {value}.",
                                option=one.name)
    words = WORDS.get(one.name)
    if words and value not in words:
        raise InvalidOption(f"{one.name} is {' or '.join(map(repr, words))}, not {value!r}.", option=one.name)


WORDS = {"durability": ("sync", "relaxed"), "keep_over": ("gap", "refuse")}
