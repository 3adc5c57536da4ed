"""Joining: segments that have become sparse are made one, so that the index shrinks with the log."""

from .records import OFFSET, Segment, segments_from

MOST_RUNS = 2_048       # in a segment that is joined from several
MOST_KEYS = 1 << 14


def join_step(environment, state, cursor):
    """Join the segments at *cursor* that fit into one; return where to go on, None at the end.

    Raises StoreFull if there is no room for it; then nothing has changed.
    """
    def work(txn, db):
        group, live = [], set()
        for segment in segments_from(txn, db, cursor):
            runs = _runs_in(txn, db, segment)
            if group and (len(live) + len(runs) > MOST_RUNS
                          or sum(one.key_count for one in group) + segment.key_count > MOST_KEYS):
                break
            group.append(segment)
            live.update(runs)
        if not group:
            return None
        if len(group) > 1 or 2 * len(live) < len(group[0].run_keys()):
            for segment in group[1:]:
                txn.delete(OFFSET.pack(segment.first), db=db.segments)
            txn.put(OFFSET.pack(group[0].first), Segment.join(group, live), db=db.segments)
        return group[-1].next if group[-1].next < state.tail.first else None

    return environment.write(work, removing=True)


def _runs_in(txn, db, segment):
    """Return the keys of the runs that there are in the stretch of *segment*."""
    found, end = [], OFFSET.pack(segment.next)
    cursor = txn.cursor(db.log)
    if cursor.set_range(OFFSET.pack(segment.first)):
        for key in cursor.iternext(values=False):
            key = bytes(key)
            if key >= end:
                break
            found.append(OFFSET.unpack(key)[0])
    return found
