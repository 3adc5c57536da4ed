"""Reading: what the reader threads do in their short transactions.

Each function takes the transaction and the databases first, looks at a bounded stretch of
the log, and returns nothing that points into the map.

Seen is what was committed when the :class:`Choice` was made, no more, though the snapshot may
have more already: of that much, what is in memory (topics, tail) is sure to know.
"""

from ..topics import PatternSet
from .chunk import ChunkBuilder
from .keys import key_digest
from .records import NUMBER, OFFSET, PAGE_TOPICS, REMOVED, Ends, Run, Segment, runs_from, segments_from, unpack_page
from .retention import gap_of, vague_gap_of
from .state import Topic

SCAN_SHARE = 4          # topics with more than 1/4 of all messages are found quicker by reading everything
MOST_SOUGHT = 1_000     # more topics than that are not looked up one by one
PASSED_BATCHES = 16     # passed over cost as much as one that is taken
STEP_RUNS = 500         # looked at in one transaction by those who walk back


class Choice:
    """Which topics a reader wants, and how to find them.

    ``ids`` are the wanted topics' (None: all of them); ``sought`` tells to look them up in the
    segments instead of reading past everything else.
    """

    def __init__(self, state, wanted):
        self.end, self.tail = state.end, state.tail     # in this order, see state.py
        self.selected, ids, _ = state.topics.select(wanted)
        everything = len(self.selected) == len(state.topics)
        self.ids = None if everything else ids
        messages = sum(topic.messages for topic in self.selected) if len(self.selected) <= MOST_SOUGHT else None
        self.sought = (not everything and messages is not None
                       and messages * SCAN_SHARE < self.end - state.first)


def read(txn, db, state, choice, cursor, wanted, next, max_messages, max_bytes, trims):
    """Return what :meth:`Store.read` promises."""
    ends = Ends.unpack(txn.get(b"state", db=db.meta))
    gap = _gap(txn, db, state, choice, cursor, wanted, trims) if ends.mark > trims else None
    stop = min(next, choice.end)
    builder = ChunkBuilder(cursor, stop, max_messages, max_bytes)
    for first, cost, run in stretch(txn, db, choice, cursor) if cursor < stop else ():
        if first >= stop:
            break
        if not builder.look(first, cost) or (run is not None and not _take(builder, run, choice, cursor, stop, state)):
            return builder.chunk(gap, ends.mark)
    builder.finish()
    return builder.chunk(gap, ends.mark)


def _take(builder, run, choice, cursor, stop, state):
    """Take the wanted batches of *run*; False if the chunk is done."""
    start = run.at(cursor)
    places = range(start, len(run))
    if choice.ids is not None:
        if places and not builder.look(run.firsts[start], len(places) // PASSED_BATCHES):
            return False
        places = run.places(start, choice.ids)
    for at in places:
        first = run.firsts[at]
        if first >= stop:
            break
        if not builder.look(first):
            return False
        if not builder.has_room(run.size(at)) or not builder.take(run.batch(at, state.topics.all)):
            return False
    return True


def stretch(txn, db, choice, cursor):
    """Yield ``(first, cost, run)`` of what may have wanted topics, from *cursor* on; no run where there were none."""
    return _sought(txn, db, choice, cursor) if choice.sought else _everything(txn, db, cursor)


def _everything(txn, db, cursor):
    for run in runs_from(txn, db, cursor):
        yield run.firsts[0], 0, run


def _sought(txn, db, choice, cursor):
    start = next(runs_from(txn, db, cursor), None)
    if start is None:
        return
    for segment in segments_from(txn, db, start.key):
        if segment.first >= choice.tail.first:
            break
        yield segment.first, 5 + len(choice.ids) // 10, None
        for key in segment.runs_of(choice.ids):
            if start.key <= key < choice.tail.first:    # it may have been joined with what was the tail then
                yield from _run_at(txn, db, key)
    for key, ids in choice.tail.runs:
        if key >= start.key and not choice.ids.isdisjoint(ids):
            yield from _run_at(txn, db, key)


def _run_at(txn, db, key):
    packed = OFFSET.pack(key)
    view = txn.get(packed, db=db.log)
    if view is not None:        # a trim may have taken it
        yield key, 0, Run(packed, view)


def _gap(txn, db, state, choice, cursor, wanted, trims):
    marks = txn.cursor(db.trims)
    if marks.set_range(OFFSET.pack(trims + 1)) and OFFSET.unpack(marks.key())[0] == trims + 1:
        topics = state.topics.all
        removed = ((topics[id - 1].name, first, count)
                   for value in marks.iternext(keys=False) for id, first, count in REMOVED.iter_unpack(value))
        return gap_of(removed, cursor, wanted)
    # Too long ago to know the single batches. From the snapshot, for memory may not know the last trim yet.
    pages = {}
    for page in {(topic.id - 1) // PAGE_TOPICS for topic in choice.selected}:
        pages.update(unpack_page(page, txn.get(NUMBER.pack(page), b"", db=db.counters)))
    return vague_gap_of((Topic(topic.id, topic.name, *pages.get(topic.id, ())) for topic in choice.selected),
                        trims, cursor)


# --- single messages -------------------------------------------------------------------


def message_at(txn, db, state, offset):
    """Return the message at *offset* as a batch of one, or None."""
    run = next(runs_from(txn, db, offset), None)
    if run is None or offset >= run.next:
        return None
    at = run.at(offset)
    first = run.firsts[at]
    if first > offset:
        return None
    return run.batch(at, state.topics.all).slice(offset - first, offset - first + 1)


def messages_at(txn, db, state, offsets):
    found = (message_at(txn, db, state, offset) for offset in offsets)
    return [batch for batch in found if batch is not None]


class Sought:
    """What :func:`last` looks for: the newest message of *topic*, with *key* if that is not None.

    Made before the snapshot, which is sure to have it if it is in LMDB up to ``next`` by then, unless it was removed.
    ``mark`` is the trim mark.
    """

    def __init__(self, state, topic, key):
        self.mark, tail = state.mark, state.tail
        self.digest = None if key is None else key_digest(topic.id, key)
        self.choice = Choice(state, PatternSet((topic.name,))) if topic.trimmed_next >= topic.next else None
        if key is not None:
            self.offset = tail.keys.get(self.digest)
        else:
            self.offset = topic.next - 1 if self.choice is None else None
        self.next = 0 if self.offset is None else self.offset + 1


def last(txn, db, state, sought):
    """Return the message as a batch of one, or None, and the trim mark of the snapshot."""
    offset = sought.offset
    if offset is None and sought.digest is not None:
        offset = _offset_of_key(txn, db, sought.digest)
    elif offset is None:
        choice = sought.choice
        offset = max(newest_below(txn, db, choice, {topic.id for topic in choice.selected}, choice.end), default=None)
    batch = None if offset is None else message_at(txn, db, state, offset)
    return batch, Ends.unpack(txn.get(b"state", db=db.meta)).mark


def _offset_of_key(txn, db, digest):
    cursor = txn.cursor(db.segments)
    for record in cursor.iterprev() if cursor.last() else ():
        offset = Segment(*record).offset_of_key(digest)
        if offset is not None:
            return offset
    return None


def newest_below(txn, db, choice, ids, next):
    """Return for each topic of *ids* (a set; used up) the offset of its newest message below *next*."""
    found = {}
    for run in _back(txn, db, choice, next, ids):
        for at in range(len(run) - 1, -1, -1):
            id = run.ids[at]
            if id in ids and run.firsts[at] < next:
                found[id] = min(run.firsts[at] + run.counts[at], next) - 1
                ids.remove(id)
        if not ids:
            break
    return list(found.values())


def count_back(txn, db, choice, before, count):
    """Go back from *before* until *count* wanted messages are passed.

    Returns ``(offset, count left, before)``: the offset reached (None if no wanted message was
    met), and where to go on if the last two are not 0.
    """
    offset = None
    for looked, run in enumerate(_back(txn, db, choice, before, choice.ids)):
        if looked >= STEP_RUNS:
            return offset, count, before
        for at in range(len(run) - 1, -1, -1):
            if run.firsts[at] < choice.end and (choice.ids is None or run.ids[at] in choice.ids):
                taken = min(count, run.counts[at])
                offset = run.firsts[at] + run.counts[at] - taken
                count -= taken
                if not count:
                    return offset, 0, 0
        before = run.key
    return offset, count, 0


def _back(txn, db, choice, before, ids):
    """Yield the runs whose key is below *before*, newest first, that may have topics of *ids* (None: all)."""
    if ids is None or not choice.sought:
        cursor = txn.cursor(db.log)
        found = cursor.prev() if cursor.set_range(OFFSET.pack(before)) else cursor.last()
        for record in cursor.iterprev() if found else ():
            yield Run(*record)
        return
    for key, in_run in reversed(choice.tail.runs):
        if key < before and not ids.isdisjoint(in_run):
            for _, _, run in _run_at(txn, db, key):
                yield run
    cursor = txn.cursor(db.segments)
    for record in cursor.iterprev() if cursor.last() else ():
        segment = Segment(*record)
        if segment.first < before and segment.first < choice.tail.first:
            for key in reversed(segment.runs_of(ids)):
                if key < min(before, choice.tail.first):
                    for _, _, run in _run_at(txn, db, key):
                        yield run


def offset_at(txn, db, end, time_us):
    """Return the offset of the first message at or after *time_us*; *end* if there is none."""
    cursor = txn.cursor(db.log)
    low, high = 0, end
    while low < high:       # the first run at or after *low* is too old, the one at or after *high* is not
        middle = (low + high) // 2
        run = Run(*cursor.item()) if cursor.set_range(OFFSET.pack(middle)) else None
        if run is None or run.time_us >= time_us:
            high = middle
        else:
            low = run.key + 1
    return min(Run(*cursor.item()).firsts[0], end) if cursor.set_range(OFFSET.pack(low)) else end
