"""Snapshots: what is pending is written to records now and then, so that the journal need not be kept for ever.

A round writes each consumer that has changed: its parts, a little with each commit, then its head, which
makes them count. When all are on disk, changes from before the round may be forgotten. What settles while
it is written stays in its part until that is on disk; the change that tells so is kept.

The next round begins when as many bytes of changes were written as the last round took, and EVERY_BYTES at the least:
so snapshots at most double what is written for a change, however much is pending.
"""

import gevent

from . import journal
from .lease import SETTLING, add_run
from .loading import rows

EVERY_BYTES = 8 << 20
PART_OFFSETS = 1_000


class Snapshots:
    """Begins a round when so much was written to the journal since the last. ``bytes``: what that took."""

    def __init__(self, home, writing):
        self.every_bytes = EVERY_BYTES
        self.rounds = self.bytes = 0
        self._home = home
        self._writing = writing
        self._task = None
        self._weight = 0

    def look(self):
        """Begin a round if it is time; never waits."""
        due = max(self.every_bytes, self.bytes)
        if self._task is None and self._writing.weight - self._weight >= due:
            self._task = gevent.spawn(self._run)

    def _run(self):
        try:
            self.round()
        except Exception as error:      # tried again when as much was written again; nothing is lost
            self._home.report(error)
        finally:
            self._task = None

    def round(self):
        """Write everything that has changed; waits for the disk. Not while a failed commit is made good."""
        if not all(consumer.state.is_whole for consumer in self._home.by_name.values()):
            return
        self._weight = self._writing.weight
        self.bytes = 0
        journal_from = self._writing.journal_next
        for consumer in tuple(self._home.by_name.values()):
            if consumer.dirty and not consumer.deleted:
                with self._home.locked(consumer.name):      # not while it is moved or deleted
                    if not consumer.deleted:
                        self._write(consumer)
        self._home.forget_journal(journal_from)
        self.rounds += 1

    def _write(self, consumer):
        home, state = self._home, consumer.state
        consumer.dirty = False
        part = state.part + 1
        try:
            written = self._write_parts(state, part, list(state.pending))
            # A snapshot that a crash has cut off had the same number, and may have had more parts.
            old = {key: None for key, _ in rows(home.store, journal.parts_prefix(state.id)) if key not in written}
            was, state.part = state.part, part
            try:
                home.wait_for_disk({journal.head_key(consumer.name): home.pack_head(consumer), **old})
            except BaseException:
                state.part = was
                raise
        except BaseException:
            consumer.dirty = True
            raise

    def _write_parts(self, state, part, offsets):
        """Write what is pending of *offsets*; return the keys of the parts."""
        written = set()
        for number, at in enumerate(range(0, len(offsets), PART_OFFSETS)):
            leases: dict = {}
            for offset in offsets[at:at + PART_OFFSETS]:
                lease = state.pending.get(offset)
                while lease is not None and lease.kind == SETTLING:     # until that is on disk, it is what it was
                    lease = lease.behind(offset)
                if lease is not None:
                    add_run(leases.setdefault(lease, []), offset, offset + 1)
            packed = journal.pack_part(leases.items(), self._home.clock)
            self.bytes += len(packed)
            key = journal.part_key(state.id, part, number)
            self._home.wait_for_disk({key: packed})
            written.add(key)
        return written
