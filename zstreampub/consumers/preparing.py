"""Preparing: finding out what must be known of what was pending when the store was opened. Waits for the store."""

from .core import Core
from .lease import PARKED, WAITING, Lease, runs_of
from .reading import read_offsets

_AT_ONCE = 1_000
_AT_ONCE_BYTES = 1 << 20


class Preparing(Core):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    def prepare(self, consumer):
        """Find out what must be known of what was pending when the store was opened; waits for the store."""
        if consumer.prepared:
            return
        with self.locked(consumer.name):
            if consumer.prepared or consumer.deleted:
                return
            state = consumer.state
            if state.pending and consumer.keys is not None:
                self._look_at(consumer, sorted(state.pending))
            elif state.pending:
                self._drop_trimmed(consumer)
            consumer.prepared = True
        self.touch(consumer)

    def _drop_trimmed(self, consumer):
        """Drop what was removed from the log and could not be told."""
        state = consumer.state
        first, next = min(state.pending), max(state.pending) + 1
        gap = self.store.read(first, consumer.wanted, next, 1, 1, 0).gap
        if gap is not None:
            self._look_at(consumer, sorted(offset for offset in state.pending if offset < gap.next))

    def _look_at(self, consumer, offsets):
        """Read *offsets*: drop those that are gone, and file the keys of the others."""
        while offsets:
            batches, next = read_offsets(self.store, consumer.wanted, offsets[:_AT_ONCE], _AT_ONCE_BYTES)
            looked = [offset for offset in offsets[:_AT_ONCE] if offset < next and offset in consumer.state.pending]
            offsets = [offset for offset in offsets if offset >= next]
            keys = {}
            for batch in batches:
                column = batch.metadata.get("key") or [None] * batch.count
                keys.update(zip(range(batch.first, batch.next), column))
            gone = [offset for offset in looked if offset not in keys]
            if gone:
                consumer.drop(runs_of(gone), "retention")
            if consumer.keys is not None:
                for offset in looked:
                    if offset in keys:
                        self._file(consumer, offset, keys[offset])

    @staticmethod
    def _file(consumer, offset, key):
        state = consumer.state
        later = consumer.keys.file(offset, key)
        lease = state.pending[offset]
        if later and lease.kind == WAITING:
            state.put(Lease(PARKED, lease.token, lease.delivery), offset, offset + 1)
        elif not later and lease.kind == PARKED:
            consumer.release(offset)
