"""What a filter before a store remembers, as the store keeps it beside the messages.

A Chain with ``min_period`` or ``every`` is at any moment ahead of the store: it has judged what is not stored yet. So
what each message has changed is noted with that message, and written with it.
"""

from ..errors import InvalidOption, StoreCorrupt
from ..filters.chain import Chain


def memory_of(filter, store, name):
    """Return what has *store* keep under *name* what *filter* remembers; if it cannot, nothing is kept."""
    memory = filter.new_memory() if isinstance(filter, Chain) and callable(getattr(store, "memory", None)) else None
    return NoMemory() if memory is None else FilterMemory(memory, store, name)


class NoMemory:
    """Stands for a memory where there is none."""

    def restore(self):
        """Have the filter remember what the store has: what it has judged since is judged again."""

    def changes(self):
        """Return what the last message has changed."""

    def after(self, kept):
        """Return the options with which *kept*, a list of Judged, is added to the store."""
        return {}

    def noted(self, kept):
        """Take note that *kept* is done with, and is written with the next."""

    def stored(self):
        """Take note that what :meth:`after` returned is in the store."""


class FilterMemory(NoMemory):
    """Of a Chain's *memory*, kept in *store* as *name*."""

    def __init__(self, memory, store, name):
        self._memory, self._store, self._name = memory, store, name
        self._unsaved: dict = {}    # of messages that are done with

    def restore(self):
        try:
            others = self._memory.restore(self._store.memory(self._name).items())
        except (ValueError, TypeError, InvalidOption) as error:
            raise StoreCorrupt(f"What the filter of {self._name!r} remembers cannot be read ({error}). Give the "
                               "receiver another name.") from error
        self._unsaved = dict.fromkeys(others)       # of filters that are no more

    def changes(self):
        return self._memory.changes()

    def after(self, kept):
        return {"memory": (self._name, self._with(kept))}

    def noted(self, kept):
        self._unsaved = self._with(kept)

    def stored(self):
        self._unsaved = {}

    def _with(self, kept):
        changes = dict(self._unsaved)
        for one in kept:
            changes |= one.changes
        return changes
