"""check_store: reads a whole store and compares everything with everything."""

from ..errors import StoreCorrupt
from ..message import Batch
from ..settings import Settings
from .checkpoint import LmdbState
from .ids import id_digest, unpack_blocks
from .journal import read_journal
from .keys import newest_of_keys
from .producers import Producers
from .records import OFFSET, runs_from, segments_from


def check_store(txn, db, settings: Settings):
    """Raise StoreCorrupt at the first thing that does not fit; reads everything in one snapshot."""
    state = LmdbState(settings, Producers(settings.max_producers))
    state.load(txn, db)     # the counters as they would be found after a crash
    counted, keys, first, end = {}, {}, None, 0
    runs, ids = {}, _check_ids(txn, db, state)
    for run in runs_from(txn, db, 0):
        _check_run(run, state, end)
        first = run.firsts[0] if first is None else first
        end = run.next
        totals = runs[run.key] = {}
        for at, id in enumerate(run.ids):
            batch = run.batch(at, state.topics.all)
            count = counted.setdefault(id, [0, 0, run.firsts[at], 0])
            count[0] += batch.count
            count[1] += batch.size
            count[3] = batch.next
            total = totals.setdefault(id, [0, 0])
            total[0] += batch.count
            total[1] += batch.size
            keys.update(newest_of_keys(batch, id))
            _check_ids_of(batch, id, ids)
    if end > state.end or (state.end if first is None else first) != state.first:
        raise StoreCorrupt(f"The log lies at [{first}, {end}), its bounds are [{state.first}, {state.end}).")
    _check_topics(state, counted)
    _check_segments(txn, db, state, runs, keys)
    _check_journal(txn, db, state)


def _check_run(run, state, end):
    if run.key > run.firsts[0] or run.key < end:
        raise StoreCorrupt(f"The run at offset {run.key} overlaps the one before.", offset=run.key)
    for at, id in enumerate(run.ids):
        batch = Batch.parse(run.batch(at, state.topics.all).packed)
        batch.verify()
        if run.firsts[at] < end or (batch.first, batch.count, batch.time_us, batch.topic) != \
                (run.firsts[at], run.counts[at], run.time_us, state.topics.all[id - 1].name):
            raise StoreCorrupt(f"The batch at offset {batch.first} does not fit its place in the log.",
                               offset=batch.first)
        end = batch.next


def _check_topics(state, counted):
    for topic in state.topics.all:
        messages, size, first, next = counted.get(topic.id, (0, 0, topic.next, topic.next))
        if topic.trimmed_next == topic.next:
            next = topic.next       # its newest message has been removed
        if (messages, size, next) != (topic.messages, topic.bytes, topic.next) or topic.first > first:
            raise StoreCorrupt(f"The counters of {topic.name} do not fit its batches: {topic.messages} messages of "
                               f"{topic.bytes} bytes up to {topic.next}, but {messages}, {size} and {next}.",
                               topic=topic.name)


def _check_segments(txn, db, state, runs, keys):
    """Every run of a topic, and the newest offset of every key, must be found through segments or tail."""
    end, newest, found = None, {}, set()
    for segment in segments_from(txn, db, 0):
        if end not in (None, segment.first):
            raise StoreCorrupt(f"The segments leave out the log from {end} to {segment.first}.", offset=end)
        end = segment.next
        for id, messages, size in segment.totals():
            in_runs = segment.runs_of((id,))
            found.update((run, id) for run in in_runs)
            kept = [runs[run][id] for run in in_runs if id in runs.get(run, ())]
            if state.topics.all[id - 1].trimmed_next <= segment.first and \
                    [messages, size] != [sum(one[0] for one in kept), sum(one[1] for one in kept)]:
                raise StoreCorrupt(f"The segment at {segment.first} has {messages} messages of "
                                   f"{state.topics.all[id - 1].name}, which is not what lies there.",
                                   offset=segment.first)
        newest.update(segment.keys())
    found.update((run, id) for run, ids in state.tail.runs for id in ids)
    newest.update(state.tail.keys)
    if end not in (None, state.tail.first):
        raise StoreCorrupt(f"The segments end at {end}, not at {state.tail.first}.", offset=end)
    for run, ids in runs.items():
        for id in ids:
            if (run, id) not in found:
                raise StoreCorrupt(f"The index leaves out topic {state.topics.all[id - 1].name} at {run}.", offset=run)
    for digest, offset in keys.items():
        if newest.get(digest) != offset:
            raise StoreCorrupt(f"The index of keys leaves out the message at {offset}.", offset=offset)


def _check_ids(txn, db, state):
    """Return a dict of offset -> digest of the ids that are remembered."""
    ids, next, newest = {}, None, -1
    for key, record in txn.cursor(db.ids):
        number, = OFFSET.unpack(key)
        if next not in (None, number):
            raise StoreCorrupt(f"The window of ids leaves out the ids {next} to {number}.")
        for _, digests, offsets in unpack_blocks(record):
            number += len(digests)
            for digest, offset in zip(digests, offsets):
                if not newest < offset < state.end:
                    raise StoreCorrupt(f"The window of ids names offset {offset} after {newest}.", offset=offset)
                ids[offset] = digest
                newest = offset
        next = number
    return ids


def _check_ids_of(batch, topic_id, ids):
    if batch.has_ids:
        for offset, id in enumerate(batch.metadata.get("id", ()), batch.first):
            if id is not None and ids.get(offset, id_digest(topic_id, id)) != id_digest(topic_id, id):
                raise StoreCorrupt(f"The window of ids has another id for the message at {offset}.", offset=offset)


def _check_journal(txn, db, state):
    numbers = [number for number, _ in read_journal(txn, db)]
    if numbers and numbers != list(range(numbers[0], state.journal_next)):
        raise StoreCorrupt(f"The journal has {len(numbers)} changes from {numbers[0]} on, but the next number is "
                           f"{state.journal_next}.")
