"""Dead letters as an operator sees them: list, redrive, purge. May wait for the store."""

from ..checks import within
from ..errors import InvalidOption
from ..publishing import check_may_publish
from ..store import Append
from ..topics import check_topic
from . import journal
from .core import Core
from .dead import revived
from .lease import runs_of

_AT_ONCE = 500
_MOST_OFFSETS = 131_072


class Letters(Core):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    def dead(self, name, *, first=None, limit=100):
        """Return at most *limit* dead letters of the consumer *name* that are not settled, from *first* on, as maps."""
        self.broker.check_thread()
        consumer = self.find(name)
        first = within("first", first, 0, 0, 1 << 53)
        limit = within("limit", limit, 100, 1, 100_000)
        found = consumer.dead.read(self.store, first, limit, 64 << 20)
        return [batch.maps()[0] for batch in found]

    def redrive(self, name, *, offsets=None, topic=None):
        """Publish dead letters again, to where they came from or to *topic*; return how many.

        *offsets* are those of the dead letters (None: all that there are now). Each is appended in the transaction
        that settles its dead letter.
        """
        if topic is not None:
            check_may_publish(check_topic(topic))
        return self._settle_dead(name, offsets, lambda batch: revived(batch, topic))

    def purge(self, name, *, offsets=None):
        """Settle dead letters, all of them or those at *offsets*; return how many. They stay in the log for a while."""
        return self._settle_dead(name, offsets, None)

    def _settle_dead(self, name, offsets, revive):
        self.broker.check_thread()
        chosen = _check_offsets(offsets)
        count, cursor = 0, 0
        with self.locked(name):
            consumer = self.find(name)
            end = self.store.bounds()[1]
            while cursor < end:
                letters = self._next_letters(consumer, cursor, chosen)
                letters = [letter for letter in letters if letter.first < end]
                if not letters:
                    break
                cursor = letters[-1].next
                picked = letters if chosen is None else [letter for letter in letters if letter.first in chosen]
                if picked:
                    self._settle_letters(consumer, picked, revive, all_below=chosen is None)
                    count += len(picked)
        return count

    def _next_letters(self, consumer, cursor, chosen):
        if chosen is not None:
            later = [offset for offset in chosen if offset >= cursor]
            if not later:
                return []
            cursor = min(later)
        return consumer.dead.read(self.store, cursor, _AT_ONCE)

    def _settle_letters(self, consumer, letters, revive, all_below):
        batches = [] if revive is None else [revive(letter) for letter in letters]
        offsets = [letter.first for letter in letters]
        runs = [consumer.dead.first, offsets[-1] + 1] if all_below else runs_of(offsets)
        state = consumer.state
        change = journal.pack_change(self.token, [[state.id, 0, 0, state.acked, state.redelivered,
                                                   [journal.DEAD_SETTLED, *runs]]])

        def done():
            consumer.dead.settle(runs)
            consumer.dirty = True
            if consumer.dead.count is not None:
                consumer.dead.count = max(0, consumer.dead.count - len(letters))
        self.append_and_wait(consumer, Append(batches, changes=[change]), done)

def _check_offsets(offsets):
    if offsets is None:
        return None
    if not isinstance(offsets, (list, tuple)) or len(offsets) > _MOST_OFFSETS:
        raise InvalidOption(f"offsets is a list of at most {_MOST_OFFSETS} offsets.", option="offsets")
    return {within("An offset", offset, None, 0, 1 << 53) for offset in offsets}
