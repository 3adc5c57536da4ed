"""Looking at consumers: how they stand, and which messages they have. May wait for the store."""

from ..checks import within
from ..errors import InvalidOption
from ..payload import pack_payload
from . import journal
from .browse import Browsing
from .lease import pairs, runs_of

_MEASURED_RUNS = 64         # of what is pending are measured one by one; with more, the stretch they lie in
_MOST_REPLACED_BYTES = 16 << 20


class Describing(Browsing):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    def describe(self, name):
        """Return how the consumer *name* stands, as a plain map; docs/operations.rst says what each field means."""
        self.broker.check_thread()
        consumer = self.find(name)
        self.prepare(consumer)
        state = consumer.state
        floor = state.floor
        oldest, oldest_time = self._oldest(consumer)
        lag = self._lag(consumer, oldest_time)
        dead = consumer.dead.measure(self.store)
        return {
            "consumer": consumer.name, "patterns": list(consumer.wanted.patterns), "mode": consumer.options.mode,
            "settings": consumer.options.as_map(), "paused": consumer.paused or False,
            "members": [member.describe_member() for member in consumer.members],
            "cursor": state.cursor, "floor": floor, "pending": state.live, "in_flight": state.in_flight,
            "waiting": state.waiting, "redelivered": state.redelivered, "dead": dead,
            "oldest_unacked": None if oldest is None else {"offset": oldest, "time": oldest_time},
            "lag": lag, "acked": state.acked, "created": consumer.created_us / 1e6,
        }

    def list(self):
        """Return :meth:`describe` of every consumer, sorted by name."""
        return [self.describe(name) for name in sorted(self.by_name) if name in self.by_name]

    def _oldest(self, consumer):
        """Return ``(offset, time)`` of the first message that is not settled."""
        state = consumer.state
        low, end = state.lowest, self.store.bounds()[1]
        if low is not None:
            batch = self.store.get(low)
            return low, None if batch is None else batch.time
        cursor = state.cursor
        while cursor < end:
            chunk = self.store.read(cursor, consumer.wanted, end, 1, 1, self.store.trim_mark())
            for batch in chunk.batches:
                if batch.first not in state.ahead:
                    return batch.first, batch.time
            if chunk.next <= cursor:
                break
            cursor = chunk.next
        return None, None

    def _lag(self, consumer, oldest_time):
        """Measure in the log what is not settled."""
        state, wanted = consumer.state, consumer.wanted
        measure, cursor = self.store.measure, state.cursor
        runs = runs_of(sorted(offset for offset in state.pending if offset < cursor))
        messages, size = 0, 0
        if len(runs) <= 2 * _MEASURED_RUNS:
            for first, next in pairs(runs):
                found = measure(wanted, first, next)
                messages, size = messages + found.messages, size + found.bytes
        elif runs:
            found = measure(wanted, runs[0], runs[-1])
            messages = min(found.messages, sum(next - first for first, next in pairs(runs)))
            size = found.bytes * messages // max(found.messages, 1)
        new = measure(wanted, cursor, self.store.bounds()[1])
        done_ahead = sum(offset not in state.pending for offset in state.ahead)
        seconds = 0.0 if oldest_time is None else max(0.0, self.clock.wall_us() / 1e6 - oldest_time)
        return {"messages": messages + max(0, new.messages - done_ahead), "bytes": size + new.bytes, "seconds": seconds}

    # --- another payload ------------------------------------------------------------------------------

    def replace(self, name, offset, payload):
        """Have the consumer *name* given *payload* for the message at *offset* instead of what was published.

        Raises InvalidOption if the message is settled, in flight, or not one of this consumer.
        """
        self.broker.check_thread()
        consumer = self.find(name)
        offset = within("offset", offset, None, 0, 1 << 53)
        packed = pack_payload(payload)
        batch = self.store.get(offset)
        state = consumer.state
        lease = state.pending.get(offset)
        if (batch is None or batch.topic not in consumer.wanted
                or (lease is None and (offset < state.cursor or offset in state.ahead))
                or (lease is not None and not consumer.is_waiting(lease))):
            raise InvalidOption(f"The consumer {name!r} has no message at {offset} that waits to be delivered.",
                                option="offset")
        size = len(packed) + sum(map(len, consumer.instead.values()))
        if len(packed) > self.settings.max_message_bytes or size > _MOST_REPLACED_BYTES:
            raise InvalidOption(f"A consumer has at most {_MOST_REPLACED_BYTES} bytes of replaced payloads, each of at "
                                f"most {self.settings.max_message_bytes}.", option="payload")
        self.wait_for_disk({journal.instead_key(state.id, offset): packed})
        consumer.instead[offset] = packed
