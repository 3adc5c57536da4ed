"""Every exception of zstreampub, sorted by who must act.

The class name is the wire code: names are only ever added. Each error carries
its facts as attributes and one English sentence that says what to do.
Anything raised that is not in this file is our bug.
"""


class ZStreamPubError(Exception):
    """Base of all; ``facts`` holds what the sentence was made from."""

    def __init__(self, message="", **facts):
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name):
        # Reached only when the usual look-up failed; copy/pickle probe before facts exist.
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


# --- the caller must change the call -----------------------------------------

class RequestError(ZStreamPubError):
    """The request is wrong as it stands; the same request will fail again."""


class InvalidTopic(RequestError):
    """A topic or pattern breaks the grammar (see :mod:`zstreampub.topics`)."""


class InvalidOption(RequestError):
    """An option is unknown, of the wrong type, or out of its range."""


class InvalidPayload(RequestError):
    """The payload, a header or a key cannot be carried."""


class InvalidBatch(RequestError):
    """A packed batch breaks the format (see docs/protocol.rst)."""


class MessageTooLarge(RequestError):
    """A payload is over ``max_message_bytes``."""


class BatchTooLarge(RequestError):
    """A batch has too many messages or bytes."""


class OffsetOutOfRange(RequestError):
    """The offset is past the end of the log, or below 0."""


class EpochMismatch(RequestError):
    """The offset belongs to another log than the one that answers."""


class SequenceTooOld(RequestError):
    """A retried publish is older than what the store remembers of its producer."""


class DeadlineExceeded(RequestError):
    """The request reached the store after the deadline that its caller gave; it was not run."""


class LimitExceeded(RequestError):
    """A limit of the server is reached: subscriptions, patterns or topics."""


class UnknownConsumer(RequestError):
    """There is no durable consumer of that name."""


class ConsumerConflict(RequestError):
    """The consumer exists with other settings; the message spells out the difference."""


class StaleDelivery(RequestError):
    """The message was delivered again since, or is settled: this delivery of it no longer counts.

    ``offsets`` are those that were refused; whatever else the call named has been done.
    """


class NextMismatch(RequestError):
    """``expected_next`` is not the topic's next offset, which is in ``next``; nothing was stored."""


class DuplicateId(RequestError):
    """Some messages of a batch repeat an id and others do not; nothing was stored.

    ``offsets`` has for each of them the offset of its original, or None.
    """


class UnknownMethod(RequestError):
    """No such method; ``zerorpc ADDRESS`` or ``Client.methods()`` lists what there is."""


class NotWriter(RequestError):
    """The process that was asked only reads the log; ``writer`` has the endpoints of the one that writes it."""


class MalformedRequest(RequestError):
    """The frame is not a zerorpc request, or its arguments do not fit the method."""


# --- the caller is right, and too early -----------------------------------------

class Overloaded(ZStreamPubError):
    """Publishers are faster than the disk (``max_pending_bytes``); the same request goes through a little later."""


# --- the caller is not allowed -------------------------------------------------

class AccessError(ZStreamPubError):
    """The caller may not do this."""


# --- the stream ended, nothing is lost: resume ----------------------------------

class SubscriptionEnded(ZStreamPubError):
    """The subscription ended before its time; ``resume`` is the offset to go on from."""


class SlowConsumer(SubscriptionEnded):
    """The subscriber did not keep up and its policy ends such a subscription."""


class SubscriberSilent(SubscriptionEnded):
    """The subscriber sent no heartbeats, so it was taken for lost."""


class ServerDraining(SubscriptionEnded):
    """The server is shutting down; connect again and resume."""


class Moved(SubscriptionEnded):
    """The subscriber, who said that it can go elsewhere, is to subscribe at one of ``endpoints``, a map from the
    writer's to those of a worker."""


class Unsubscribed(SubscriptionEnded):
    """Somebody called ``unsubscribe`` with this subscription's id."""


class ConsumerDeleted(SubscriptionEnded):
    """Somebody deleted the consumer that the subscription was a member of."""


class GapError(ZStreamPubError):
    """Messages are missing in ``[first, next)`` and the subscriber wanted to be told by exception."""


class UndecodablePayload(ZStreamPubError):
    """A reader was given a message whose payload it cannot decode: ``offset``, ``topic``, ``raw`` bytes, ``why``."""

    @classmethod
    def of(cls, message):
        """Return the error about *message*, whose payload is an Undecodable."""
        raw, why = message.payload.raw, message.payload.reason
        return cls(f"The payload of message {message.offset} of {message.topic} cannot be decoded: {why}",
                   offset=message.offset, topic=message.topic, raw=raw, why=why)


# --- the operator must act ------------------------------------------------------

class StoreError(ZStreamPubError):
    """The store cannot do what is asked of it."""


class StoreFull(StoreError):
    """No room on disk or in the map; reading, trimming and acknowledging go on."""


class HeldByConsumer(StoreFull):
    """A consumer has not acknowledged what retention would have to remove first (``keep_over = "refuse"``)."""


class SpoolFull(StoreFull):
    """A store of received messages has as many messages or bytes as its bounds allow; pop some, or widen them."""


class StoreCorrupt(StoreError):
    """The store holds something that it cannot read; nothing was changed."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class StoreVersion(StoreError):
    """The store was written in a format that this version does not understand."""


class StoreClosed(StoreError):
    """The store or broker is closed."""


class BindError(ZStreamPubError):
    """The server cannot listen on its endpoint."""


# --- the network ------------------------------------------------------------------

class ConnectionLost(ZStreamPubError):
    """The server cannot be reached (client only, after its own retries)."""


class RequestTimeout(ConnectionLost):
    """No answer in time. A publish may or may not have been stored; a retry by the same producer is safe."""


class InternalError(ZStreamPubError):
    """Our bug. The server's log has the traceback under ``reference``."""


def by_name(name):
    """Return the error class that the wire calls *name*, or None."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, ZStreamPubError):
        return found
    return None
