"""Writing: takes what has changed of all consumers to the store, once for each turn of the hub.

One append carries the changes of a turn, several may be under way. What a commit has made true
is told in the order of the commits. Nothing here waits.
"""

from functools import partial

import gevent

from ..store import Append
from . import journal
from .changes import Flush

_AGAIN_S = 1.0
_SKIP_TOKENS = 1 << 32      # at each start: more than a commit that a power cut took back may have used


class Writing:
    """``touch`` a consumer, and it deals and is written soon. *home* is the Consumers.

    ``token`` is the last that was given out. ``journal_next`` is the number of the change that comes after
    all that is known to be on disk; ``weight`` is how many bytes of changes were written so far.
    """

    def __init__(self, home):
        self.token = 0
        self.journal_next = 0
        self.weight = 0
        self.current = Flush()
        self._home = home
        self._touched = {}
        self._scheduled = False
        self._loop = gevent.get_hub().loop

    def skip_tokens(self):
        self.token += _SKIP_TOKENS

    def new_token(self):
        self.token += 1
        return self.token

    def touch(self, consumer):
        """Have *consumer* deal, and write what has changed."""
        self._touched[consumer] = None
        self.schedule()

    def schedule(self):
        """Have ``current`` written."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self.write)

    def write(self):
        """Write what has changed now."""
        self._scheduled = False
        home, now = self._home, self._home.clock.now()
        touched, self._touched = self._touched, {}
        for consumer in touched:
            if not consumer.deleted:
                try:
                    consumer.deal(now)
                except Exception as error:      # one consumer's trouble is not the others'
                    home.report(error)
        flush, self.current = self.current, Flush()
        try:
            packed = [flush.take(consumer, home.clock)
                      for consumer in touched if consumer.has_changes and not consumer.deleted]
            if flush:
                changes = [journal.pack_change(self.token, packed)] if packed else []
                self.weight += sum(map(len, changes))
                home.broker.append_own(Append((), partial(self._written, flush), changes=changes,
                                              records=flush.records or None))
            else:
                flush.answer(home.report)
        except Exception as error:              # the store is closed, or has died
            self._fail(flush, home.as_ours(error))

    def _written(self, flush, append):
        home = self._home
        if append.error is not None:
            self._fail(flush, append.error)
            return
        if append.journal_next is not None:
            self.journal_next = max(self.journal_next, append.journal_next)
        flush.done(home.report)
        flush.answer(home.report)
        home.written(flush)

    def _fail(self, flush, error):
        home = self._home
        now = home.clock.now()
        flush.failed(error, now, home.report)
        flush.answer(home.report)
        for consumer, *_ in flush.moves:
            consumer.retry_at = now + _AGAIN_S
            home.watch_time(consumer, consumer.retry_at)
