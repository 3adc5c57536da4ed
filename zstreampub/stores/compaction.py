"""Compaction: under ``newest_per_key`` a message goes once its topic has a newer one with the same key.

A pass *gathers* the newest offset of each key in the part of the log that is not clean yet, up to
``MOST_KEYS`` of them, and then *sweeps* everything below the end of that part: what has a newer one
goes, out of the middle of a batch too. Then that much is clean. Where there are more keys, the
pass goes on with another such stage; one key takes about 200 bytes of memory, while a pass is going on.

Of messages with the same key below ``clean`` all but the newest are gone, or held by a guard; then
what came after them is not counted as clean. So a message that deletes its key (its payload is nil) may go
itself, ``tombstone_s`` after it came: nothing that it deleted is left below it, held ones apart,
and who holds those holds it as well.

Keys are compared themselves, never their digests: a collision loses nothing.

Decides only; the stores read and write. A pass costs a walk over all that the rule governs, so
it begins when a share of that is new, or some time after the last one.
"""

import time

import msgpack

from ..message import Batch
from .choosers import Kept
from .keys import keys_of

MOST_KEYS = 1 << 18
LEAST_NEW = 4_096       # so many must have come, and a quarter of what is kept
NEW_SHARE = 4
LOOKS = 60              # of retention's; after so many the rest of what is new is compacted too
LEISURE = 100           # but then passes take less than a hundredth of the time

BEHIND = 3              # where fewer are visited for each message that comes, passes would take ever longer

_NIL = b"\xc0"
_NOTHING: dict = {}


class Compaction:
    """The passes over the topics of one rule: when they begin, and what each leaves to the next.

    ``clean``: see above. ``current`` is the pass that is going on, or None.
    """

    def __init__(self, limits, settings):
        self.limits = limits
        self.clean = 0
        self.current = None
        self._tombstone_us = int(settings.tombstone_s * 1e6)
        self._patience_s = settings.retention_interval_s * LOOKS
        self._added = 0             # limits.added when the last pass began
        self._looked_at = time.monotonic()
        self._worked_s = 0.0        # in the last pass
        self._oldest_deletion_us = None
        self._held = {}             # see Pass

    def resume(self, clean, end):
        """Go on with a log that was opened; how much is new is only estimated."""
        self.clean = clean
        # At least one: only a pass finds deletions that wait for their time.
        self._added = self.limits.added - min(self.limits.messages, max(end - clean, 1))

    def due(self, now_us, guards):
        """Tell whether a pass should begin."""
        new = self.limits.added - self._added
        if new >= LEAST_NEW and new * NEW_SHARE >= self.limits.messages:
            return True
        now = time.monotonic()
        if now - self._looked_at < max(self._patience_s, LEISURE * self._worked_s):
            return False
        self._looked_at = now
        return new > 0 or self._deletion_due(now_us) or self._released(guards)

    def _deletion_due(self, now_us):
        return self._oldest_deletion_us is not None and self._oldest_deletion_us + self._tombstone_us <= now_us

    def _released(self, guards):
        return any(offset < guards.first(topic) for topic, offset in self._held.items())

    def begin(self, topics, end, now_us):
        """Begin a pass over those of *topics* that the rule governs, in the log up to *end*."""
        limits = self.limits
        self._added, self._worked_s = limits.added, 0.0
        ids = frozenset(topic.id for topic in topics if topic.limits is limits)
        self.current = Pass(ids, limits.messages, limits.low, self.clean, end, now_us - self._tombstone_us)

    @property
    def is_behind(self):
        """Whether the pass that is going on should not rest."""
        return self.current is not None and self.current.visited < BEHIND * (self.limits.added - self._added)

    def worked(self, seconds):
        self._worked_s += seconds

    def swept(self):
        """One stage is through: begin the next, or end the pass; tell whether that was the last."""
        current = self.current
        if current.gathered < current.end:
            current.begin_stage(current.gathered)
            return False
        self.clean = min((current.end, *current.held.values()))
        self._held, self._oldest_deletion_us = current.held, current.oldest_deletion_us
        self._looked_at, self.current = time.monotonic(), None
        return True


class Pass:
    """One pass over the topics ``ids``, which have some ``messages``, below ``end``.

    ``cursor`` is where its next step begins. It is gathering until :meth:`sweep` is called.
    """

    def __init__(self, ids, messages, first, clean, end, deleted_before_us):
        self.ids = ids
        self.messages = messages
        self.end = end
        self.gathering = True
        self.gathered = clean
        self.cursor = clean
        self.held = {}          # topic -> offset of the first message that a guard keeps from going
        self.oldest_deletion_us = None
        self._first = first
        self._deleted_before_us = deleted_before_us
        self.visited = 0        # messages
        self._newest = {}       # topic id -> {key: offset}
        self._keys = 0

    @property
    def stop(self):
        """Where the stage that is going on ends."""
        return self.end if self.gathering else self.gathered

    def begin_stage(self, clean):
        self.gathering, self.cursor = True, clean
        self._newest, self._keys = {}, 0

    # --- gathering -------------------------------------------------------------------

    def gather(self, topic, batch):
        keys = keys_of(batch)
        self.visited += batch.count
        if keys is not None:
            newest = self._newest.setdefault(topic.id, {})
            self._keys -= len(newest)
            newest.update(zip(keys, range(batch.first, batch.next)))
            newest.pop(None, None)
            self._keys += len(newest)

    @property
    def is_full(self):
        return self._keys >= MOST_KEYS

    def sweep(self):
        """Everything up to the cursor is gathered: begin to sweep."""
        self.gathering, self.gathered = False, self.cursor
        self.cursor = self._first

    # --- sweeping --------------------------------------------------------------------

    def stays(self, topic, batch, guards):
        """Return what stays of *batch*, a list of ``(start, stop)``; None if all of it does."""
        keys = keys_of(batch)
        self.visited += batch.count
        if keys is None:
            return None
        newest = self._newest.get(topic.id, _NOTHING).get
        gone = {offset - batch.first for offset, key in enumerate(keys, batch.first) if newest(key, -1) > offset}
        if _NIL in batch.packed:
            gone |= self._deletions(topic, batch, keys, gone)
        if gone:
            gone = self._free(topic, batch, gone, guards)
        if len(gone) == batch.count:
            return []
        return _ranges(at for at in range(batch.count) if at not in gone) if gone else None

    def _deletions(self, topic, batch, keys, gone):
        """Return where the deletions are that have been kept long enough.

        None of a topic in which something was held: what it deleted may still be there.
        """
        places = {at for at, (key, raw) in enumerate(zip(keys, batch.raw_payloads))
                  if raw == _NIL and key is not None and at not in gone}
        if not places or (batch.time_us < self._deleted_before_us and topic.name not in self.held):
            return places
        self.oldest_deletion_us = min(batch.time_us, self.oldest_deletion_us or batch.time_us)
        return set()

    def _free(self, topic, batch, gone, guards):
        """Return the places in *gone* that nobody holds."""
        held_from = guards.first(topic.name)
        if held_from >= batch.next:
            return gone
        held = [at for at in gone if batch.first + at >= held_from]
        if held:
            first = batch.first + min(held)
            self.held[topic.name] = min(first, self.held.get(topic.name, first))
        return gone.difference(held)


def pack_clean(compactions, rules):
    """Return the record of how much is clean; good only under the same rules, which say what it is about."""
    return msgpack.packb([_names(rules), [one.clean for one in compactions]])


def unpack_clean(record, rules, count):
    """Return how much is clean for each of *count* compactions; nothing if there is no record that fits."""
    if record is not None:
        try:
            names, clean = msgpack.unpackb(record)
        except Exception as error:      # msgpack raises ten kinds
            raise ValueError(f"the record of what is compacted: {error}") from error
        if names == _names(rules):
            return clean
    return [0] * count


def _names(rules):
    return [[rule.pattern, rule.newest_per_key] for rule in rules]


def parts(batch, ranges):
    """Return the messages of each ``(start, stop)`` of *batch* as a batch of their own."""
    if not ranges:
        return []
    raws, columns, sound = batch.raw_payloads, batch.metadata, batch.is_sound
    return [Batch.assemble(batch.topic, raws[start:stop],
                           {name: column[start:stop] for name, column in columns.items()},
                           batch.first + start, batch.time_us, sound) for start, stop in ranges]


def removed(topic, batch, ranges, kept):
    """Return what goes of *batch* if *kept*, its *ranges*, stay; the bytes are all in the first."""
    if not kept:
        return [Kept(topic, batch.first, batch.count, batch.size, batch.time_us)]
    size = batch.size - sum(part.size for part in kept)
    gone = []
    starts, stops = [0, *(stop for _, stop in ranges)], [*(start for start, _ in ranges), batch.count]
    for start, stop in zip(starts, stops):
        if start == stop:
            continue
        gone.append(Kept(topic, batch.first + start, stop - start, size, batch.time_us))
        size = 0
    return gone


def _ranges(places):
    """Return sorted *places* as ``(start, stop)``, neighbours as one."""
    ranges = []
    for at in places:
        if ranges and ranges[-1][1] == at:
            ranges[-1][1] = at + 1
        else:
            ranges.append([at, at + 1])
    return ranges
