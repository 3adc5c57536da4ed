"""Rereading: brings what waits for its next delivery back from the store, when a member has room for it."""

import gevent

from ..errors import StoreCorrupt, StoreError
from .lease import runs_of
from .reading import read_offsets
from .source import Again

_AT_ONCE = 1_000
_AT_ONCE_BYTES = 512 << 10
_AGAIN_S = 1.0


class Rereading:
    """For one consumer; at most one read at a time, in a greenlet that ends with it."""

    def __init__(self, consumer):
        self._consumer = consumer
        self._reading = False

    @property
    def busy(self):
        return self._reading

    def start(self):
        """Read what is ready (if that is not being done already); never waits."""
        if not self._reading:
            self._reading = True
            gevent.spawn(self._run)

    def _run(self):
        consumer = self._consumer
        state, home = consumer.state, consumer.home
        offsets = state.take_ready(_AT_ONCE)
        try:
            if offsets:
                batches, next = read_offsets(home.store, consumer.wanted, offsets, _AT_ONCE_BYTES)
                for batch in batches:
                    batch.check_columns()
                self._take(state, offsets, batches, next)
        except StoreCorrupt as error:
            self._pass_over(state, offsets, error)
        except StoreError as error:
            self._later(state, offsets, error)
        except Exception as error:
            self._later(state, offsets, home.report(error))
        finally:
            self._reading = False
        consumer.new_is_next = True
        home.touch(consumer)

    def _take(self, state, offsets, batches, next):
        consumer = self._consumer
        there = {offset for batch in batches for offset in range(batch.first, batch.next)}
        missing = [offset for offset in offsets
                   if offset < next and offset not in there and state.is_ready(offset) is not None]
        for offset in offsets:
            if offset >= next:
                state.ready_again(offset, offset + 1)
        if consumer.state is not state:
            return
        if missing:
            consumer.drop(runs_of(missing), "retention")
        if consumer.has_takers:
            consumer.again.extend(Again(consumer, batch) for batch in batches)
        else:
            for batch in batches:
                state.ready_again(batch.first, batch.next)

    def _pass_over(self, state, offsets, error):
        """Settle what is in a batch that nobody can open; the others are read again."""
        first, next = error.facts.get("offset", 0), error.facts.get("next", 0)
        damaged = [offset for offset in offsets if first <= offset < next and state.is_ready(offset) is not None]
        if not damaged or self._consumer.state is not state:
            self._later(state, offsets, error)
            return
        for offset in offsets:
            if not first <= offset < next:
                state.ready_again(offset, offset + 1)
        self._consumer.drop(runs_of(damaged), "damaged")

    def _later(self, state, offsets, error):
        consumer = self._consumer
        for offset in offsets:
            state.ready_again(offset, offset + 1)
        consumer.retry_at = consumer.home.clock.now() + _AGAIN_S
        consumer.hold_reading(error)
        consumer.home.watch_time(consumer, consumer.retry_at)
