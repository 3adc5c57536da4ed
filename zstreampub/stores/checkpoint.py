"""Checkpoint: what LmdbStore keeps in memory, how it is saved, and how it is found again.

A commit writes only the log and where it ends. Counters of topics and producers'
sequences are saved now and then, a little with each commit, and counted on from the log's
tail when the store is opened; so a commit costs the same with one topic and with 100,000.
"""

import os
import time

from ..errors import StoreCorrupt, StoreVersion
from . import producers as dedup
from .ids import ids_of, pack_block, unpack_blocks
from .journal import pack_changes
from .records import (
    CLOSED,
    FORMAT,
    NUMBER,
    OFFSET,
    OPEN_RELAXED,
    OPEN_SYNC,
    PAGE_TOPICS,
    READ_FORMATS,
    Ends,
    Run,
    Tail,
    pack_page,
    runs_from,
    unpack_page,
)
from .rows import Row
from .state import LogState, Topic

EVERY_S = 5.0
EVERY_BATCHES = 100_000
RECORDS_PER_COMMIT = 64
# More than one commit may use (group.MAX_APPEND_MESSAGES): what a power cut may take back of a relaxed store.
RELAXED_SKIP = 1 << 20

_LENGTHS = NUMBER


class LmdbState(LogState):
    """:class:`LogState`, and what the writer must know to save it.

    ``tail`` covers the log from where the segments end; ``notes`` have what LMDB does not yet: of the log, what is
    above ``written``.
    """

    def __init__(self, settings, producers, notes=None):
        super().__init__(settings)
        self.producers = producers
        self.notes = notes
        self.tail = Tail(0)
        self.written = 0
        self.journal = Row()
        self.id_row = Row()
        self._forget_below = 0      # in the journal
        self.guarded = False        # whether there have been guards, before the store was opened or since
        self.compacted = None       # the record of what was when the store was opened
        self.session = OPEN_SYNC if settings.durability == "sync" else OPEN_RELAXED
        self.checkpoint = 0
        self.changed_pages = set()
        self._round = []        # what remains to be saved before ``_round_end`` becomes the checkpoint
        self._round_end = 0
        self._round_at = time.monotonic()
        self._batches = 0       # appended since the round began

    def ends(self, **changes):
        return Ends(self.end, self.first, self.time_us, self.mark, self.checkpoint, self.tail.first,
                    self.notes.first, self.session)._replace(**changes)

    @property
    def kept_from(self):
        """The number of the first change that is kept."""
        return self.notes.first if self.journal.first is None else self.journal.first

    # --- saving ------------------------------------------------------------------

    def begin_round(self, batches=0):
        """Begin a new round of saving if it is time; *batches* are counted for that."""
        self._batches += batches
        late = time.monotonic() - self._round_at >= EVERY_S
        if not self._round and (late or self._batches >= EVERY_BATCHES) and self._batches:
            self._round = self._everything()
            self._round_end, self._round_at, self._batches = self.end, time.monotonic(), 0

    def _everything(self):
        everything: list = [*self.changed_pages, *self.producers.changed]
        self.changed_pages = set()
        self.producers.changed = set()
        return everything

    def save_some(self, txn, db):
        """Save the next few records; returns the checkpoint that is reached once *txn* is committed."""
        part = self._round[-RECORDS_PER_COMMIT:]
        self._save(txn, db, part)
        return self._round_end if len(part) == len(self._round) and self._round_end else self.checkpoint

    def some_saved(self, checkpoint):
        """The transaction of :meth:`save_some` is committed."""
        del self._round[-RECORDS_PER_COMMIT:]
        self.checkpoint = checkpoint

    def save_all(self, txn, db):
        """Save everything that has changed; returns the checkpoint. Tell :meth:`all_saved` after the commit."""
        self._round += self._everything()
        self._save(txn, db, self._round)
        return self.end

    def all_saved(self):
        self._round, self._round_end, self.checkpoint, self._batches = [], self.end, self.end, 0

    def _save(self, txn, db, parts):
        pages = [part for part in parts if type(part) is int]
        if pages:
            txn.cursor(db.counters).putmulti([(NUMBER.pack(page), self.page(page)) for page in pages])
        for producer in parts:
            if type(producer) is bytes:
                record = self.producers.record(producer)
                if record is None:
                    txn.delete(producer, db=db.producers)
                else:
                    txn.put(producer, record, db=db.producers)

    def page(self, page, instead=None):
        """Return the packed counters of a page; *instead* maps topics to what they will be."""
        topics = self.topics.all[page * PAGE_TOPICS:(page + 1) * PAGE_TOPICS]
        return pack_page([instead.get(topic, topic) for topic in topics] if instead else topics)

    def write_rows(self, txn, db, group=None):
        """Write the changes and ids that were noted, and those of *group*; returns what :meth:`all_taken` is told."""
        changes, ids = self.notes.kept[1], self.notes.ids
        if group is not None:
            changes, ids = [*changes, *group.changes], [*ids, *_id_blocks(group)]
            self._forget_below = max(self._forget_below, group.journal_from)
        txn.put(b"notes", self.notes.draw_ground(), db=db.meta)
        return (self.journal.write(txn, db.journal, self.notes.first, pack_changes(changes), self._forget_below),
                self.id_row.write(txn, db.ids, self.ids.next - self.notes.id_count, b"".join(ids), self.ids.first))

    def all_taken(self, rows):
        """The transaction of :meth:`write_rows` is committed, and counted: LMDB has everything."""
        for row, outcome in zip((self.journal, self.id_row), rows):
            row.written(outcome)
        self.notes.taken(self.journal_next)
        self.written = self.end

    def note(self, group, run):
        """Note what *group* brings: *run* is ``(offset, packed)`` or None. Return False if LMDB is to take it."""
        if not self.notes.write(group.changes, run):
            return False
        for block in _id_blocks(group):
            self.notes.keep_ids(block, len(group.ids.digests))
        return True

    # --- finding again -------------------------------------------------------------

    def create(self, txn, db):
        """Make the first records of a new log."""
        self.epoch = os.urandom(16).hex()
        txn.put(b"epoch", bytes.fromhex(self.epoch), db=db.meta)
        txn.put(b"state", self.ends().pack(), db=db.meta)

    def load(self, txn, db):
        """Read everything; returns how the store was left."""
        _check_format(txn, db)
        ends = Ends.unpack(txn.get(b"state", db=db.meta))
        self.epoch = bytes(txn.get(b"epoch", db=db.meta)).hex()
        self.end, self.first, self.time_us, self.mark, self.checkpoint = ends[:5]
        self.tail = Tail(ends.segmented)
        self.journal_next = ends.journal
        self.guarded = txn.get(b"guarded", db=db.meta) is not None
        compacted = txn.get(b"compacted", db=db.meta)
        self.compacted = None if compacted is None else bytes(compacted)
        for _ in self.journal.load(txn, db.journal):
            pass
        self._load_ids(txn, db)
        load_topics(self.topics, txn, db)
        self.producers.load((bytes(name), bytes(record)) for name, record in txn.cursor(db.producers))
        self._roll_forward(txn, db)
        for limits in self.topics.limits:
            limits.begin_at(min((topic.first for topic in self.topics.all
                                 if topic.limits is limits and topic.messages), default=self.end))
        return ends.session

    def find_notes(self, txn, db):
        """Find what was noted, and have the log in LMDB take the runs; :meth:`load` then finds them there."""
        _check_format(txn, db)
        ground = txn.get(b"notes", db=db.meta)
        if ground is None:
            return
        ends = Ends.unpack(txn.get(b"state", db=db.meta))
        self.notes.find(bytes(ground), ends.journal)
        for key, packed in self.notes.runs:
            run = Run(OFFSET.pack(key), packed)
            txn.put(OFFSET.pack(key), packed, db=db.log)
            ends = ends._replace(next=run.next, time_us=run.time_us)
        txn.put(b"state", ends.pack(), db=db.meta)

    def take_notes(self, txn, db):
        """Have LMDB take the rest of what was noted, after :meth:`load`; returns what :meth:`all_taken` is told."""
        for key, packed in self.notes.runs if self.ids.limit else ():
            run = Run(OFFSET.pack(key), packed)
            ids = ids_of((run.batch(at, self.topics.all), id) for at, id in enumerate(run.ids))
            if ids:
                self.ids.add(run.time_us, list(ids), list(ids.values()))
                self.notes.keep_ids(pack_block(run.time_us, list(ids), list(ids.values())), len(ids))
        self.journal_next += len(self.notes.kept[1])
        txn.put(b"format", NUMBER.pack(FORMAT), db=db.meta)
        return self.write_rows(txn, db)

    def skip_offsets(self):
        """After a power cut of a relaxed store the last commit may be gone: leave room for its offsets."""
        if self.first == self.end:
            self.first += RELAXED_SKIP
        self.end += RELAXED_SKIP
        self.mark += RELAXED_SKIP

    def _load_ids(self, txn, db):
        for number, record in self.id_row.load(txn, db.ids):
            if not len(self.ids):
                self.ids.first = self.ids.next = number
            for block in unpack_blocks(record):
                self.ids.add(*block)

    def _roll_forward(self, txn, db):
        touched = {}
        for run in runs_from(txn, db, min(self.checkpoint, self.tail.first)):
            self._count(run)
            if run.key >= self.tail.first:
                self.tail.add(run.key, [(self.topics.all[id - 1], run.batch(at, self.topics.all))
                                        for at, id in enumerate(run.ids)])
            for producer, entry in unpack_sequences(run.sequences):
                if producer not in touched:
                    touched[producer] = self.producers.sequences(producer)
                dedup.replay(touched[producer], entry)
        if touched:
            self.producers.keep(touched, self.time_us)

    def _count(self, run):
        for at, id in enumerate(run.ids):
            topic = self.topics.all[id - 1]
            if run.firsts[at] >= topic.next:
                topic.add(run.firsts[at], run.counts[at], run.size(at))
                self.changed_pages.add((id - 1) // PAGE_TOPICS)
                self._batches += 1


def _check_format(txn, db):
    version = txn.get(b"format", db=db.meta)
    if version is None or bytes(version) not in map(NUMBER.pack, READ_FORMATS):
        found = "an unknown format" if version is None else f"format {int.from_bytes(bytes(version), 'big')}"
        raise StoreVersion(f"The store has {found}, this program reads format {FORMAT}. Use the version of "
                           "zstreampub that wrote it, or another directory.")


def _id_blocks(group):
    """Return the ids of *group* as a list of at most one block."""
    digests = group.ids.digests
    return [pack_block(group.time_us, digests, group.ids.offsets)] if digests else []


def load_topics(topics, txn, db):
    """Add the topics that *topics* has not yet, with their counters as they were saved last."""
    counters = {}
    for key, value in txn.cursor(db.counters) if not len(topics) else ():
        counters.update(unpack_page(NUMBER.unpack(key)[0], value))
    cursor = txn.cursor(db.names)
    for key, joined in cursor.iternext() if cursor.set_range(NUMBER.pack(len(topics) + 1)) else ():
        if NUMBER.unpack(key)[0] != len(topics) + 1:
            raise StoreCorrupt(f"The name of topic {len(topics) + 1} is missing.")
        for id, name in enumerate(str(joined, "utf-8").split("\0"), len(topics) + 1):
            topics.add(Topic(id, name, *counters.get(id, ())))


def pack_sequences(sequences):
    """Return ``(producer, entry)`` pairs as the bytes that go into a run."""
    return b"".join([b"".join((bytes((len(producer),)), producer, _LENGTHS.pack(len(entry)), entry))
                     for producer, entry in sequences])


def unpack_sequences(packed):
    at = 0
    while at < len(packed):
        producer = packed[at + 1:at + 1 + packed[at]]
        at += 1 + len(producer)
        size, = _LENGTHS.unpack_from(packed, at)
        at += 4 + size
        yield producer, packed[at - size:at]


def left_unclean(session):
    """Tell whether a power cut may have taken back the last commit of whoever had the store open."""
    return session not in (CLOSED, OPEN_SYNC)
