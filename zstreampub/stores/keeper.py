"""Keeper: what the writer thread removes between its commits, a step at a time: trims, retention, compaction.

Steps are small, for the appends behind them wait. Runs in the writer thread only (see writer.py).
"""

import time

from ..errors import StoreFull
from .compaction import Compaction, pack_clean, unpack_clean
from .joining import join_step
from .orders import Removed, Trim
from .removal import STEP_BATCHES, remove_step
from .sweep import gather_step, sweep_step

WALKS = 3       # of one rule after one commit
IDLE_S = 60.0   # without rules, the thread waits for orders so long at most
IDLE_REST = 1   # a step of compaction is followed by so many times its time without one
BUSY_REST = 4   # while others append


class Keeper:
    """Everything that removes; ``trims`` are the orders that are not done yet.

    After a restart retention waits until it is told the guards, if there were any before: else it
    would remove what is only not yet held again.
    """

    def __init__(self, environment, state, settings, tell):
        self._environment = environment
        self._state = state
        self._settings = settings
        self._tell = tell
        self.trims = []
        self.removed_messages = 0
        self._waits = state.guarded
        self._looked_at = time.monotonic()
        self._rest_until = 0.0
        self._rule = -1             # whose turn it was last
        self._compactions = _compactions(state, settings)
        self._compact_at = 0.0
        self._join_at = None        # where the next segments are to be joined, after a pass

    # --- what the writer asks ----------------------------------------------------------

    def order(self, order):
        """Take a Trim or Guarding; tell whether no append that comes after it should be taken now."""
        if isinstance(order, Trim):
            order.chooser.start = self._state.first
            self.trims.append(order)
            return False
        self._guard(order.guards)
        return self._state.topics.refusing      # there may be room soon

    def busy(self):
        """Tell whether there is something to do at once."""
        return bool(self.trims) or self._pressed() or (
            self._compacting() and time.monotonic() >= self._compact_at)

    def patience_s(self):
        """Return how long the thread may wait for the next order."""
        if not self._state.topics.limits:
            return IDLE_S
        wait_s = self._settings.retention_interval_s
        return min(wait_s, max(self._compact_at - time.monotonic(), 0.0)) if self._compacting() else wait_s

    def turn(self, appended):
        """Do one step of whatever is to be done, after a commit of *appended* appends; LMDB must have them for that."""
        if not self._state.notes.runs:
            self._remove(appended)
        if self._state.topics.limits and not self._waits and self._settings.keep_over == "refuse":
            self._state.judge()

    def _remove(self, appended):
        if self.trims:
            self._trim_step(self.trims[0])
        if self._state.topics.limits and not self._waits:
            self._retain(appended)
            self._compact(appended)

    def put_off(self, error):
        """Nothing can be removed for now: refuse the trims with *error*, and look again after an interval."""
        self.fail(error)
        self._rest_until = self._compact_at = time.monotonic() + self._settings.retention_interval_s

    def fail(self, error):
        """Tell everybody who waits that it comes to nothing."""
        trims, self.trims = self.trims, []
        for trim in trims:
            trim.error = error
            self._tell(trim)

    # --- what is held --------------------------------------------------------------------

    def _guard(self, guards):
        state = self._state
        state.guard(guards)
        if bool(guards) != state.guarded:
            self._note_guarded(bool(guards))
        self._waits = False

    def _note_guarded(self, guarded):
        def write(txn, db):
            if guarded:
                txn.put(b"guarded", b"", db=db.meta)
            else:
                txn.delete(b"guarded", db=db.meta)
        try:
            self._environment.write(write, removing=True)
            self._state.guarded = guarded
        except StoreFull:
            pass        # the next one notes it

    # --- removing ------------------------------------------------------------------------

    def _trim_step(self, trim):
        try:
            step = remove_step(self._environment, self._state, lambda: trim.chooser)
        except StoreFull as error:
            trim.error = error
        else:
            trim.count += step.messages
            self._removed(step)
            if not step.ended:
                return
        self._tell(self.trims.pop(0))

    def _pressed(self):
        """Tell whether retention should not wait for its interval."""
        return (not self._waits and time.monotonic() >= self._rest_until
                and any(limits.urgent() for limits in self._state.topics.limits))

    def _retain(self, appended):
        """Remove one step of what a rule wants gone, if it is time to look."""
        now, interval_s = time.monotonic(), self._settings.retention_interval_s
        if not (self._pressed() or now - self._looked_at >= interval_s):
            return
        now_us = self._state.clock_us()
        limits = self._next_rule(now_us)
        if limits is None:
            self._looked_at = now
            return
        try:
            self._walk(limits, now_us, max(STEP_BATCHES, 2 * appended))
        except StoreFull:
            limits.oldest_us = 0
            self._looked_at, self._rest_until = now, now + interval_s

    def _next_rule(self, now_us):
        """Return the next rule with something to remove, or None; they take turns."""
        rules = self._state.topics.limits
        for at in (*range(self._rule + 1, len(rules)), *range(self._rule + 1)):
            if rules[at].walk(self._state.guards, now_us) is not None:
                self._rule = at
                return rules[at]
        return None

    def _walk(self, limits, now_us, most):
        """Walk for one rule: what is held matters only after what is not, and comes up again with each append."""
        for _ in range(WALKS):
            walk = limits.walk(self._state.guards, now_us)
            if walk is None:
                return
            step = remove_step(self._environment, self._state, walk, most)
            self._removed(step)
            if not step.ended:
                return

    # --- compaction ----------------------------------------------------------------------

    def _compacting(self):
        return self._join_at is not None or any(one.current is not None for one in self._compactions)

    def _compact(self, appended):
        """Take one step of a pass, if one is going on or due."""
        if time.monotonic() < self._compact_at:
            return
        began = time.thread_time()      # not that of waiting for the disk
        one = None if self._join_at is not None else self._next_compaction()
        if one is None and self._join_at is None:
            return
        try:
            if one is None:
                self._join_at = join_step(self._environment, self._state, self._join_at)
            else:
                self._compact_step(one)
        except StoreFull:
            self._compact_at = time.monotonic() + self._settings.retention_interval_s
            return
        took = time.thread_time() - began
        if one is not None:
            one.worked(took)
        rest = 0 if one is not None and one.is_behind else BUSY_REST if appended else IDLE_REST
        self._compact_at = time.monotonic() + took * rest

    def _next_compaction(self):
        """Return the compaction whose pass is going on, or begins now, or None."""
        state, now_us = self._state, self._state.clock_us()
        for one in self._compactions:
            if one.current is not None:
                return one
        for one in self._compactions:
            if one.due(now_us, state.guards):
                one.begin(state.topics.all, state.end, now_us)
                return one
        return None

    def _compact_step(self, one):
        if one.current.gathering:
            self._environment.read(gather_step, self._state, one.current, one.is_behind)
            return
        step = sweep_step(self._environment, self._state, one.current, one.is_behind)
        self._removed(step)
        if step.ended and one.swept():
            self._join_at = 0
            record = pack_clean(self._compactions, self._settings.retention)
            self._environment.write(lambda txn, db: txn.put(b"compacted", record, db=db.meta), removing=True)

    def _removed(self, step):
        self.removed_messages += step.messages
        if step.removals:
            self._tell(Removed(step.removals))


def _compactions(state, settings):
    """Return a Compaction for each rule that has one, where the last one left off."""
    found = [Compaction(limits, settings) for limits in state.topics.limits if limits.rule.newest_per_key]
    for one, clean in zip(found, unpack_clean(state.compacted, settings.retention, len(found))):
        one.resume(clean, state.end)
    return found
