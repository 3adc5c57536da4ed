"""Orders: what the writer thread is asked for besides appends, and what it tells besides them."""

from .choosers import Below


class Trim:
    """An order to remove; ``done(trim)`` is called on the hub with ``count``, or ``error``, set."""

    def __init__(self, wanted, next, done):
        self.chooser = Below(wanted, next)
        self.done = done
        self.count = 0
        self.error = None


class Guarding:
    """The order to hold back from now on what *guards* say."""

    def __init__(self, guards):
        self.guards = guards
        self.error = None


class Fold:
    """The order to have LMDB take what was noted, for somebody who reads; ``done(fold)`` is called on the hub."""

    def __init__(self, done):
        self.done = done
        self.error = None


class Removed:
    """What one step has removed: a list of ``(topic, first, next)``."""

    def __init__(self, removals):
        self.removals = removals


class Close:
    """The order to finish and close; ``done(close)`` is called on the hub."""

    def __init__(self, done):
        self.done = done
        self.error = None
