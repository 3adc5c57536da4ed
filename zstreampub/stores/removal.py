"""One step of removing batches from the log: choose, rewrite, count; one transaction."""

from typing import NamedTuple

from .records import NUMBER, OFFSET, PAGE_TOPICS, REMOVED, Segment, runs_from
from .retention import HISTORY_STEPS, Kept, by_topic

STEP_BATCHES = 500      # removed in one transaction; more would hold up the appends behind it
STEP_LOOK = 5_000       # looked at: a batch that goes counts for one, a run for 16 and a sixteenth of its batches


class Step(NamedTuple):
    """What one step came to: ``(topic name, first, next)`` of all that went; the next one begins at ``cursor``.

    ``ended`` if there is no next one.
    """

    messages: int
    cursor: int
    ended: bool
    removals: list


class _Found(NamedTuple):
    removals: list
    changes: list       # (key of a run, its new record or None)
    cursor: int
    ended: bool


def remove_step(environment, state, cursor, make_chooser, most=STEP_BATCHES):
    """Remove what a chooser of retention.py wants gone from *cursor* on, some *most* batches.

    Raises StoreFull if there is not even room for that in the reserve; then nothing has changed.
    """
    def work(txn, db):
        found = _find(txn, db, state, cursor, make_chooser(), most)
        return found, _remove(txn, db, state, found) if found.removals else None

    found, outcome = environment.write(work, removing=True)
    if outcome is not None:
        after, first, saved = outcome
        if saved:
            state.all_saved()
        state.mark += 1
        for topic, counters in after.items():
            topic.become(counters)
        state.first = first
    return Step(sum(batch.count for batch in found.removals), found.cursor, found.ended,
                [(batch.topic.name, batch.first, batch.next) for batch in found.removals])


def _find(txn, db, state, cursor, chooser, most):
    removals, changes, looked = [], [], 0
    for run in runs_from(txn, db, cursor):
        if run.key >= chooser.stop:
            break
        if len(removals) >= most or looked >= STEP_LOOK:
            return _Found(removals, changes, cursor, False)
        gone, kept = _choose(run, cursor, chooser, state.topics.all)
        removals += gone.values()
        if gone:
            changes.append((OFFSET.pack(run.key), run.without(gone, state.topics.all)))
        if kept is not None:
            return _Found(removals, changes, kept.first, True)
        cursor = run.next
        looked += len(run) // 16 + len(gone) + 16
    return _Found(removals, changes, cursor, True)


def _choose(run, cursor, chooser, topics):
    """Return the batches of *run* that go, by their index, and the one at which the walk may end, or None."""
    gone = {}
    concerned = {id for id in set(run.ids) if chooser.concerns(topics[id - 1])}
    for at in run.places(run.at(cursor), concerned):
        batch = Kept(topics[run.ids[at] - 1], run.firsts[at], run.counts[at], run.size(at), run.time_us)
        goes = batch.first < chooser.stop and chooser.goes(batch)
        if goes is None:
            return gone, batch
        if goes:
            gone[at] = batch
    return gone, None


def _remove(txn, db, state, found):
    """Write it all; returns the topics' new counters, the new first offset, and whether all was saved."""
    for key, record in found.changes:
        if record is None:
            txn.delete(key, db=db.log)
        else:
            txn.put(key, record, db=db.log)
    mark = state.mark + 1
    after = {topic: topic.without(batches, mark) for topic, batches in by_topic(found.removals).items()}
    # What is counted on from the log when the store is opened must still be in the log then.
    saved = found.removals[-1].next > state.checkpoint
    checkpoint = state.save_all(txn, db) if saved else state.checkpoint
    pages = {(topic.id - 1) // PAGE_TOPICS for topic in after}
    txn.cursor(db.counters).putmulti([(NUMBER.pack(page), state.page(page, after)) for page in pages])
    txn.put(OFFSET.pack(mark), b"".join([REMOVED.pack(batch.topic.id, batch.first, batch.count)
                                         for batch in found.removals]), db=db.trims)
    _drop_oldest_trim(txn, db, mark)
    first = next((run.firsts[0] for run in runs_from(txn, db, 0)), state.end)
    _drop_segments(txn, db, first)
    txn.put(b"state", state.ends(mark=mark, first=first, checkpoint=checkpoint).pack(), db=db.meta)
    return after, first, saved


def _drop_oldest_trim(txn, db, mark):
    cursor = txn.cursor(db.trims)
    if cursor.first() and OFFSET.unpack(cursor.key())[0] <= mark - HISTORY_STEPS:
        cursor.delete()


def _drop_segments(txn, db, first):
    cursor = txn.cursor(db.segments)
    while cursor.first() and Segment(*cursor.item()).next <= first:
        cursor.delete()
