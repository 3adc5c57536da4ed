"""What LmdbStore writes, format 3: the keys and values of each database.

=========  ==========================  ==========================================================
database   key                         value
=========  ==========================  ==========================================================
log        u64 first offset            a *run*: batches of one commit, see :class:`Run`
segments   u64 first offset            where in a stretch of the log which topics and keys are,
                                       see :class:`Segment`
names      u32 id of the first topic   names of topics with consecutive ids, joined by NUL
counters   u32 page                    counters of 64 topics with consecutive ids
producers  producer                    see producers.py
trims      u64 trim mark               the batches removed: u32 topic id, u64 first, u32 messages
                                       of each; the last 1024 trims
journal    u64 number of the first     changes with consecutive numbers, see journal.py: u32 length
           change                      and bytes of each
records    the hub's                   the hub's
ids        u64 running number of the   the ids of some commits, see ids.py: u64 time, u32 ids; digests
           first                       of 16 bytes; u64 offset of each
meta       ``format``                  u32 version
\\          ``epoch``                   16 bytes
\\          ``state``                   see :class:`Ends`
\\          ``guarded``                 empty; there if there were guards, see keeper.py
\\          ``compacted``               how much was compacted, see compaction.py
\\          ``notes``                   8 bytes, the ground of the notes, see disk/journal.py
=========  ==========================  ==========================================================

**Few and large records, because each call into LMDB lets go of the GIL** and, while the
hub is busy, gets it back only after a switch interval: one put per message and one per index
entry took 0.8 ms a message beside a busy hub (3 us beside an idle one). A commit of a thousand
messages is two puts.

Keys are big-endian (they sort), values little-endian columns. To change the format: give it
the next version, and convert when an older one is opened. Format 2 (zstreampub 0.2) is the same without
notes, of which programs that know only that would not look for messages.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from ..errors import StoreCorrupt
from ..message import HAS_METADATA, Batch
from .keys import newest_of_keys

FORMAT, READ_FORMATS = 3, (2, 3)
DATABASES = ("log", "segments", "names", "counters", "producers", "trims", "journal", "records",
             "ids", "meta")

OFFSET = struct.Struct(">Q")
NUMBER = struct.Struct(">I")
LENGTH = struct.Struct("<I")
REMOVED = struct.Struct("<IQI")

PAGE_TOPICS = 64        # 56 bytes each: a page of counters fits one of LMDB's

# How the store was left by whoever opened it last.
CLOSED, OPEN_SYNC, OPEN_RELAXED = 0, 1, 2

_ENDS = struct.Struct("<8Q")
_RUN = struct.Struct("<IIQ")
_SEGMENT = struct.Struct("<QIII")
_COUNTERS = struct.Struct("<7Q")


class Ends(NamedTuple):
    """The one record that every commit writes (``meta``, key ``state``)."""

    next: int = 0           # the next offset
    first: int = 0          # the first offset that is kept
    time_us: int = 0        # time of the newest batch
    mark: int = 0           # trim mark
    checkpoint: int = 0     # counters and producers are right up to here at least
    segmented: int = 0      # segments reach up to here
    journal: int = 0        # the number of the next change
    session: int = CLOSED

    def pack(self):
        return _ENDS.pack(*self)

    @classmethod
    def unpack(cls, value):
        if value is None or len(value) != _ENDS.size:
            raise StoreCorrupt("The store has no valid record of where its log ends. Restore it from a backup.")
        return cls(*_ENDS.unpack(value))


class Run:
    """Batches of one commit in one record.

    ``firsts``, ``ids``, ``counts``, ``ends`` are columns with an entry for each batch: its first
    offset, topic id, messages, and where its bytes end. Bytes: u32 batches, u32 bytes of
    sequences, u64 time; the columns; the sequences (of producers, see checkpoint.py); the batches.
    """

    __slots__ = ("key", "firsts", "ids", "counts", "ends", "time_us", "sequences", "_view", "_base")

    def __init__(self, key, view):
        self.key, = OFFSET.unpack(key)
        count, sequence_bytes, self.time_us = _RUN.unpack_from(view)
        at = _RUN.size
        self.firsts, at = _column("Q", view, at, count)
        self.ids, at = _column("I", view, at, count)
        self.counts, at = _column("I", view, at, count)
        self.ends, at = _column("I", view, at, count)
        self.sequences = bytes(view[at:at + sequence_bytes])
        self._base = at + sequence_bytes
        self._view = view
        if count == 0 or self._base + self.ends[-1] != len(view):
            raise StoreCorrupt(f"The run at offset {self.key} does not fit its {len(view)} bytes.", offset=self.key)

    @staticmethod
    def pack(placed, time_us, sequences=b""):
        """Return the record of *placed*, a list of ``(topic id, batch)``."""
        ends, end = [], 0
        for _, batch in placed:
            end += len(batch.packed)
            ends.append(end)
        return b"".join((
            _RUN.pack(len(placed), len(sequences), time_us),
            _packed("Q", [batch.first for _, batch in placed]), _packed("I", [id for id, _ in placed]),
            _packed("I", [batch.count for _, batch in placed]), _packed("I", ends),
            sequences, *[batch.packed for _, batch in placed]))

    @property
    def next(self):
        return self.firsts[-1] + self.counts[-1]

    def __len__(self):
        return len(self.firsts)

    def size(self, at):
        return self.ends[at] - (self.ends[at - 1] if at else 0)

    def at(self, offset):
        """Return which batch holds *offset*, or the first one after it; ``len`` if none is."""
        at = bisect_left(self.firsts, offset)
        if at and self.firsts[at - 1] + self.counts[at - 1] > offset:
            at -= 1
        return at

    def places(self, start, ids):
        """Return where, from *start* on, the batches of the topics *ids* are."""
        return [at for at, id in enumerate(self.ids[start:], start) if id in ids]

    def batch(self, at, topics):
        """Return a batch of its own bytes; *topics* is the list of all topics."""
        end = self._base + self.ends[at]
        packed = bytes(self._view[end - self.size(at):end])
        return Batch(packed, topics[self.ids[at] - 1].name, self.counts[at], self.firsts[at], self.time_us)

    def without(self, gone, topics):
        """Return the record without the batches *gone* (indexes), or None if none is left."""
        kept = [(self.ids[at], self.batch(at, topics)) for at in range(len(self)) if at not in gone]
        return self.pack(kept, self.time_us, self.sequences) if kept else None


class Segment:
    """For a stretch of the log: in which runs each topic is and how much of it there was, and the newest of each key.

    A hint, never wrong by leaving out: a run named here may have lost the topic, or all of
    itself, to a trim since. Bytes: u64 where the stretch ends, u32 topics, u32 run keys, u32 keys;
    then the columns: topic ids, sorted; each topic's messages, bytes, and where its runs end; run keys;
    digests, sorted; offsets.
    """

    __slots__ = ("first", "next", "_ids", "_messages", "_bytes", "_ends", "_runs", "_digests", "_offsets")

    def __init__(self, key, view):
        self.first, = OFFSET.unpack(key)
        self.next, topics, runs, keys = _SEGMENT.unpack_from(view)
        self._ids, at = _column("I", view, _SEGMENT.size, topics)
        self._messages, at = _column("I", view, at, topics)
        self._bytes, at = _column("Q", view, at, topics)
        self._ends, at = _column("I", view, at, topics)
        self._runs, at = _column("Q", view, at, runs)
        self._digests, at = _column("Q", view, at, keys)
        self._offsets, at = _column("Q", view, at, keys)
        if at != len(view):
            raise StoreCorrupt(f"The segment at offset {self.first} does not fit its {len(view)} bytes.",
                               offset=self.first)

    @staticmethod
    def pack(tail, next):
        by_topic = {}
        for key, ids in tail.runs:
            for id in ids:
                by_topic.setdefault(id, []).append(key)
        return _packed_segment(next, by_topic, tail.totals, tail.keys)

    @staticmethod
    def join(segments, live):
        """Return the record of neighbours as one that names no runs but those in *live*, a set, and their keys."""
        by_topic, totals, keys = {}, {}, {}
        for segment in segments:
            for at, id in enumerate(segment._ids):
                runs = [key for key in segment._runs_at(at) if key in live]
                if runs:
                    by_topic.setdefault(id, []).extend(runs)
                total = totals.setdefault(id, [0, 0])
                total[0] += segment._messages[at]
                total[1] += segment._bytes[at]
            run_keys = segment.run_keys()
            keys.update((digest, offset) for digest, offset in zip(segment._digests, segment._offsets)
                        if run_keys[bisect_right(run_keys, offset) - 1] in live)
        return _packed_segment(segments[-1].next, by_topic, totals, keys)

    @property
    def key_count(self):
        return len(self._digests)

    def run_keys(self):
        """Return the keys of all runs that it names, sorted."""
        return sorted(set(self._runs))

    def runs_of(self, ids):
        """Return the keys of the runs in which any of *ids* may be, sorted."""
        found = set()
        for _, at in self._places(ids):
            found.update(self._runs_at(at))
        return sorted(found)

    def _runs_at(self, at):
        return self._runs[self._ends[at - 1] if at else 0:self._ends[at]]

    def totals(self, ids=None):
        """Yield ``(id, messages, bytes)`` of what was appended of the topics *ids* (None: all)."""
        for id, at in self._places(ids) if ids is not None else zip(self._ids, range(len(self._ids))):
            yield id, self._messages[at], self._bytes[at]

    def _places(self, ids):
        if len(ids) > len(self._ids):
            return [(id, at) for at, id in enumerate(self._ids) if id in ids]
        places = ((id, bisect_left(self._ids, id)) for id in ids)
        return [(id, at) for id, at in places if at < len(self._ids) and self._ids[at] == id]

    def keys(self):
        return zip(self._digests, self._offsets)

    def offset_of_key(self, digest):
        at = bisect_left(self._digests, digest)
        return self._offsets[at] if at < len(self._digests) and self._digests[at] == digest else None


def _packed_segment(next, by_topic, totals, keys):
    ids, digests = sorted(by_topic), sorted(keys)
    runs, ends = [], []
    for id in ids:
        runs += by_topic[id]
        ends.append(len(runs))
    return b"".join((
        _SEGMENT.pack(next, len(ids), len(runs), len(digests)),
        _packed("I", ids), _packed("I", [totals[id][0] for id in ids]),
        _packed("Q", [totals[id][1] for id in ids]), _packed("I", ends), _packed("Q", runs),
        _packed("Q", digests), _packed("Q", [keys[digest] for digest in digests])))


class Tail:
    """What the next segment will say; in memory until there is enough of it.

    ``runs`` are ``(run key, set of topic ids)`` from offset ``first`` on, ``totals`` the messages and
    bytes of each topic in them.
    """

    __slots__ = ("first", "runs", "keys", "totals", "batches")

    def __init__(self, first):
        self.first = first
        self.runs = []
        self.keys = {}
        self.totals = {}
        self.batches = 0

    def add(self, key, placed):
        """Add the run of ``(topic, batch)`` pairs that has that *key*."""
        totals, ids = self.totals, set()
        for topic, batch in placed:
            id = topic.id
            ids.add(id)
            total = totals.get(id)
            if total is None:
                total = totals[id] = [0, 0]
            total[0] += batch.count
            total[1] += len(batch.packed)
            if batch.packed[1] & HAS_METADATA:
                self.keys.update(newest_of_keys(batch, id))
        self.runs.append((key, frozenset(ids)))
        self.batches += len(placed)


def runs_from(txn, db, offset):
    """Yield the runs of the log in order, from the one that may hold *offset* on."""
    return _records_from(txn.cursor(db.log), offset, Run)


def segments_from(txn, db, offset):
    """Yield the segments in order, from the one that may cover *offset* on."""
    return _records_from(txn.cursor(db.segments), offset, Segment)


def _records_from(cursor, offset, kind):
    key = OFFSET.pack(offset)
    found = cursor.set_range(key)
    if not found or bytes(cursor.key()) != key:
        # An offset in the middle of a record; before the first one there is nothing to step back to.
        found = (cursor.prev() if found else cursor.last()) or cursor.first()
    if found:
        for one in cursor.iternext():
            yield kind(*one)


def pack_page(topics):
    """Return the counters of up to ``PAGE_TOPICS`` topics with consecutive ids."""
    return b"".join([_COUNTERS.pack(t.messages, t.bytes, t.first, t.next, t.trimmed_next, t.trimmed_messages, t.mark)
                     for t in topics])


def unpack_page(page, value):
    """Yield ``(id, counters)`` of the topics of a page, counters as ``state.Topic`` takes them."""
    if len(value) % _COUNTERS.size:
        raise StoreCorrupt(f"Page {page} of the topics' counters has {len(value)} bytes.")
    return enumerate(_COUNTERS.iter_unpack(value), page * PAGE_TOPICS + 1)


def _column(code, view, at, count):
    column = array(code)
    end = at + count * column.itemsize
    column.frombytes(view[at:end])
    if len(column) != count:
        raise StoreCorrupt("A record ends in the middle of a column.")
    if sys.byteorder == "big":
        column.byteswap()
    return column, end


def _packed(code, values):
    column = array(code, values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
