"""Browsing: the messages that a consumer has not settled, and removing those that it has. May wait."""

from ..checks import within
from ..payload import unpack_payload
from .lease import IN_FLIGHT, SETTLING, WAITING
from .preparing import Preparing

_READ_FIRST = 8     # who peeks wants one
_READ = 1_000
_READ_BYTES = 1 << 20


class Browsing(Preparing):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    def peek(self, name):
        """Return the map of the message that would be handed out next, with ``delivery``; None if there is none."""
        self.broker.check_thread()
        consumer = self.find(name)
        self.prepare(consumer)
        now = self.clock.now()
        for message in self._unsettled(consumer, consumer.state.floor):
            lease = consumer.state.pending.get(message["offset"])
            if lease is None or (lease.kind == WAITING and (lease.ready or lease.due <= now)):
                return {key: value for key, value in message.items() if key != "state"}
        return None

    def browse(self, name, first=None, limit=100):
        """Return maps of at most *limit* messages from *first* on that are not settled, in order.

        Each has ``state``: ``waiting`` (for another delivery), ``in_flight`` or ``new``; and ``delivery``, the number
        of times that it was delivered.
        """
        self.broker.check_thread()
        consumer = self.find(name)
        self.prepare(consumer)
        floor = consumer.state.floor
        first = floor if first is None else max(floor, within("first", first, None, 0, 1 << 53))
        limit = within("limit", limit, 100, 1, 100_000)
        found = []
        for message in self._unsettled(consumer, first):
            found.append(message)
            if len(found) >= limit:
                break
        return found

    def _unsettled(self, consumer, cursor):
        end, most = self.store.bounds()[1], _READ_FIRST
        while cursor < end:
            state = consumer.state
            chunk = self.store.read(cursor, consumer.wanted, end, most, _READ_BYTES, self.store.trim_mark())
            most = min(8 * most, _READ)
            for batch in chunk.batches:
                for message in batch.messages(decoded=False):
                    described = self._describe_message(consumer, state, message)
                    if described is not None:
                        yield described
            if chunk.next <= cursor:
                break
            cursor = chunk.next

    @staticmethod
    def _describe_message(consumer, state, message):
        offset = message.offset
        lease = state.pending.get(offset)
        if lease is None:
            if offset < state.cursor or offset in state.ahead:
                return None
            how, delivery = "new", 0
        elif lease.kind == SETTLING:
            return None
        else:
            how = "in_flight" if lease.kind == IN_FLIGHT else "waiting" if lease.delivery else "new"
            delivery = lease.delivery
        fields = {**message.as_map(), "state": how, "delivery": delivery}
        if offset in consumer.instead:
            fields["payload"] = unpack_payload(consumer.instead[offset])
        return fields

    def clear_acked(self, name, *, keep_latest=1000, max_delete=1000):
        """Remove from the log the oldest messages that this consumer has settled; return how many went.

        The *keep_latest* newest of them stay, about *max_delete* go at most (whole batches only), and nothing that
        another consumer has not settled.
        """
        self.broker.check_thread()
        consumer = self.find(name)
        keep_latest = within("keep_latest", keep_latest, 1000, 0, 1 << 53)
        max_delete = within("max_delete", max_delete, 1000, 1, 1 << 53)
        topics = [topic["topic"] for topic in self.store.topics(consumer.wanted)]
        below = min((other.state.floor for other in self.by_name.values()
                     if any(topic in other.wanted for topic in topics)), default=0)
        deletable = min(self.store.measure(consumer.wanted, 0, below).messages - keep_latest, max_delete)
        if deletable <= 0:
            return 0
        return self.store.trim(consumer.wanted, min(below, self._after(consumer.wanted, deletable)))

    def _after(self, wanted, count):
        """Return the offset after the first *count* messages that are kept."""
        cursor, end = self.store.bounds()
        while cursor < end and count > 0:
            chunk = self.store.read(cursor, wanted, end, count, _READ_BYTES, self.store.trim_mark())
            count -= sum(batch.count for batch in chunk.batches)
            if count <= 0:
                return chunk.batches[-1].next
            if chunk.next <= cursor:
                break
            cursor = chunk.next
        return cursor
