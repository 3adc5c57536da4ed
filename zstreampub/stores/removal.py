"""One step of removing from the log: choose, rewrite, count; one transaction."""

from typing import NamedTuple

from .choosers import Kept
from .records import NUMBER, OFFSET, PAGE_TOPICS, REMOVED, Segment, runs_from
from .retention import HISTORY_STEPS, by_topic, count_out, joined

STEP_BATCHES = 500      # removed in one transaction; more would hold up the appends behind it
STEP_BYTES = 1 << 20    # written anew, for what else is in the same records; it has to fit into the reserve
STEP_LOOK = 5_000       # looked at: a batch that is chosen from counts for one, a run for 16 and a sixteenth of it


class Step(NamedTuple):
    """What one step came to: ``(topic name, first, next)`` of all that went; ``ended`` if there is no next one."""

    messages: int
    ended: bool
    removals: list


class Found(NamedTuple):
    """What is to go in one step, in the order of the log; ``scattered`` if others are between and before it."""

    removals: list      # of Kept
    changes: list       # (key of a run, its new record or None)
    cursor: int
    ended: bool
    scattered: bool = False


def remove_step(environment, state, make_chooser, most=STEP_BATCHES):
    """Remove what a chooser (choosers.py) wants gone, some *most* batches.

    Raises StoreFull if there is not even room for that in the reserve; then nothing has changed.
    """
    def find(txn, db):
        chooser = make_chooser()
        return chooser, _find(txn, db, state, chooser, most)

    chooser, found = write_step(environment, state, find)
    chooser.walked(found.cursor, found.ended)
    return Step(sum(batch.count for batch in found.removals), found.ended, told(found.removals))


def write_step(environment, state, find):
    """Remove what ``find(txn, db)`` finds, in the same transaction; returns what it returns, a Found last."""
    def work(txn, db):
        *others, found = find(txn, db)
        return (*others, found), _remove(txn, db, state, found) if found.removals else None

    found, outcome = environment.write(work, removing=True)
    if outcome is not None:
        after, first, saved = outcome
        if saved:
            state.all_saved()
        with state.changing():
            state.mark += 1
            for topic, counters in after.items():
                topic.become(counters)
        count_out(found[-1].removals)
        state.first = first
    return found


def told(removals):
    """Return removals as the follower is told of them: neighbours of one topic are one."""
    return [(topic.name, first, first + count) for topic, first, count in joined(removals)]


def _find(txn, db, state, chooser, most):
    removals, changes, looked, written, cursor = [], [], 0, 0, chooser.start
    for run in runs_from(txn, db, cursor):
        if run.key >= chooser.stop:
            break
        if len(removals) >= most or looked >= STEP_LOOK or written >= STEP_BYTES:
            return Found(removals, changes, cursor, False)
        gone, kept, asked = _choose(run, cursor, chooser, state.topics.all)
        removals += gone.values()
        if gone:
            record = run.without(gone, state.topics.all)
            changes.append((OFFSET.pack(run.key), record))
            written += len(record or ())
        if kept is not None:
            return Found(removals, changes, kept.first, True)
        cursor = run.next
        looked += len(run) // 16 + asked + 16
    return Found(removals, changes, cursor, True)


def _choose(run, cursor, chooser, topics):
    """Return the batches of *run* that go, by their index, the one at which the walk may end, and how many were asked.

    None if the walk goes on.
    """
    gone = {}
    concerned = {id for id in set(run.ids) if chooser.concerns(topics[id - 1])}
    places = run.places(run.at(cursor), concerned)
    for at in places:
        batch = Kept(topics[run.ids[at] - 1], run.firsts[at], run.counts[at], run.size(at), run.time_us)
        goes = batch.first < chooser.stop and chooser.goes(batch)
        if goes is None:
            return gone, batch, len(places)
        if goes:
            gone[at] = batch
    return gone, None, len(places)


def _remove(txn, db, state, found):
    """Write it all; returns the topics' new counters, the new first offset, and whether all was saved."""
    for key, record in found.changes:
        if record is None:
            txn.delete(key, db=db.log)
        else:
            txn.put(key, record, db=db.log)
    mark = state.mark + 1
    after = {topic: topic.without(batches, mark, found.scattered)
             for topic, batches in by_topic(found.removals).items()}
    # What is counted on from the log when the store is opened must still be in the log then.
    saved = found.removals[-1].next > state.checkpoint
    checkpoint = state.save_all(txn, db) if saved else state.checkpoint
    pages = {(topic.id - 1) // PAGE_TOPICS for topic in after}
    txn.cursor(db.counters).putmulti([(NUMBER.pack(page), state.page(page, after)) for page in pages])
    txn.put(OFFSET.pack(mark), b"".join([REMOVED.pack(topic.id, first, count)
                                         for topic, first, count in joined(found.removals)]), db=db.trims)
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
