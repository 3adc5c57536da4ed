"""Exactly-once hand-over into a store: where to go on is kept in the same transaction as the messages."""

import logging
from time import monotonic
from typing import Any, NamedTuple

from ..client.delivery import Delivery
from .calls import passed
from .loop import Tries, is_gap, messages_of

logger = logging.getLogger(__name__)

MARK_S = 1.0        # what the filter leaves out moves the mark so often


def is_store(callback):
    """Tell whether *callback* is a store that keeps marks."""
    return callable(getattr(callback, "mark", None)) and callable(getattr(callback, "add_many", None))


class Judged(NamedTuple):
    """A *message* that the filter has seen: what is *shown* of it (None: nothing), and what it *changes* in memory."""

    message: Any
    shown: Any
    changes: Any


class HandOver:
    """Puts what comes into *store*; *mark* and *memory* (see marks.py and memory.py) are kept besides."""

    def __init__(self, store, mark, memory, filter, loop):
        self._store, self._mark, self._memory, self._filter, self._loop = store, mark, memory, filter, loop
        self._is_new = False        # whether the store has no mark yet
        self._is_behind = False     # whether the mark in the store is behind what was taken
        self._marked_at = monotonic()

    def place(self):
        """Return the place that the store knows, or None."""
        place = self._mark.restore(self._store)
        self._memory.restore()
        self._is_new = place is None
        return place

    def reached(self, place):
        """Take note that everything below *place* is done with: the mark moves, in time."""
        self._is_behind |= self._mark.reach(place)

    def opened(self):
        self._mark.check(self._loop.feed)
        if self._is_new:        # from here on it goes on there, also if it is killed before a message comes
            self.reached(self._loop.feed.place)
            self.finish()
            self._is_new = self._is_behind

    def take(self, taken):
        """Store it: what came together in one transaction. Return True: it is all done with."""
        kept = []
        for one in messages_of(taken):
            if is_gap(one):
                self._keep(kept)
                kept = []
                self._loop.gap(one)
            elif not self._mark.knows(one):
                kept.append(Judged(one, self._shown(one), self._memory.changes()))
        self._keep(kept)
        if self._is_behind and monotonic() - self._marked_at > MARK_S:
            self.finish()
        return True

    def finish(self):
        """Write the mark, if the one in the store is behind."""
        if self._is_behind:
            try:
                self._add([])
            except Exception:       # then the same is left out again next time
                logger.warning("the mark of a store that says where to go on could not be written", exc_info=True)

    def _shown(self, message):
        """Return what is to be stored of *message*, None for nothing."""
        tries = Tries(self._loop, message)
        while True:
            try:
                return passed(message, self._filter)
            except Exception as error:
                if not tries.again(error):
                    self._give_up(message, error)
                    return None

    def _keep(self, kept):
        """Store all at once; if that fails, in halves, so that at last each that fails has its own verdict."""
        if len(kept) < 2:
            for one in kept:
                self._keep_one(one)
            return
        try:
            self._add(kept)
        except Exception:
            half = len(kept) // 2
            self._keep(kept[:half])
            self._keep(kept[half:])

    def _keep_one(self, one):
        tries = Tries(self._loop, one.message)
        while True:
            try:
                self._add([one])
                return
            except Exception as error:
                if not tries.again(error):
                    self._give_up(one.message, error)
                    self._note([one._replace(shown=None)])
                    return

    def _add(self, kept):
        """Add *kept* in one transaction; what is left out moves the mark, in time."""
        shown = [one.shown for one in kept if one.shown is not None]
        if kept and not shown:
            self._note(kept)
            return
        self._store.add_many(shown, mark=self._mark.after(kept), **self._memory.after(kept))
        self._mark.stored(kept)
        self._memory.stored()
        self._is_behind = False
        self._marked_at = monotonic()

    def _note(self, kept):
        self._mark.stored(kept)
        self._memory.noted(kept)
        self._is_behind = True

    @staticmethod
    def _give_up(message, error):
        """Be done with a message that cannot be stored: at a consumer it is a dead letter."""
        if isinstance(message, Delivery):
            message.reject(f"{type(error).__name__}: {error}")
