"""Looking at consumers: how they stand, and which messages they have. May wait for the store."""

from ..checks import within
from ..errors import InvalidOption
from ..payload import pack_payload
from . import journal
from .backlog import Backlog
from .browse import Browsing
from .lease import SETTLING, pairs, runs_of

_MEASURED = 10_000
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

    def stats(self):
        """Return the sums over all consumers; dead letters are counted in the log the first time."""
        consumers = tuple(self.by_name.values())
        return {"consumers": len(consumers), "members": sum(len(one.members) for one in consumers),
                "pending": sum(one.state.live for one in consumers),
                "in_flight": sum(one.state.in_flight for one in consumers),
                "waiting": sum(one.state.waiting for one in consumers),
                "dead": sum(one.dead.measure(self.store) if one.dead.count is None else one.dead.count
                            for one in consumers),
                "paused": sum(one.paused is not None for one in consumers), "acked": self.acked_messages}

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
        cursor, low = state.cursor, state.lowest
        done = sorted(offset for offset in state.ahead if offset not in state.pending)
        pending = state.live - (len(state.ahead) - len(done))       # below the cursor
        messages, size = self._measure_pending(state, wanted, low, cursor, pending) if low is not None else (0, 0)
        if consumer.backlog is None:
            consumer.backlog = Backlog(self.store, wanted)
        new, new_bytes = consumer.backlog.measure(cursor, self.store.bounds()[1])
        seconds = 0.0 if oldest_time is None else max(0.0, self.clock.wall_us() / 1e6 - oldest_time)
        messages += max(0, new - self._count(wanted, done))
        return {"messages": messages, "bytes": size + new_bytes, "seconds": seconds}

    def _count(self, wanted, offsets):
        """Return how many of *offsets* are in the log still; of many that lie apart, all."""
        runs = runs_of(offsets)
        if len(runs) > 2 * _MEASURED_RUNS:
            return len(offsets)
        return sum(self.store.measure(wanted, first, next).messages for first, next in pairs(runs))

    def _measure_pending(self, state, wanted, low, cursor, pending):
        """Return ``(messages, bytes)`` of what is pending below *cursor*; of much, about the bytes."""
        measure = self.store.measure
        if pending <= _MEASURED:
            offsets = sorted(offset for offset, lease in state.pending.items()
                             if offset < cursor and lease.kind != SETTLING)
            runs = runs_of(offsets)
            if len(runs) <= 2 * _MEASURED_RUNS:
                found = [measure(wanted, first, next) for first, next in pairs(runs)]
                return sum(one.messages for one in found), sum(one.bytes for one in found)
        stretch = measure(wanted, low, cursor)
        messages = min(stretch.messages, pending)
        return messages, stretch.bytes * messages // max(stretch.messages, 1)

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
        before = consumer.instead.get(offset)
        consumer.instead[offset] = packed       # at once: a hand-out is written with it or after it
        try:
            self.wait_for_disk({journal.instead_key(state.id, offset): packed})
        except BaseException:
            consumer.instead[offset] = before
            if before is None:
                del consumer.instead[offset]
            raise
