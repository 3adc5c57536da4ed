"""Sweep: the steps of a compaction (compaction.py) over the log on disk; in the writer thread."""

import time
from typing import NamedTuple

from .compaction import parts, removed
from .reading import MOST_SOUGHT, SCAN_SHARE, stretch
from .records import OFFSET, Run
from .removal import STEP_BYTES, Found, Step, told, write_step

STEP_S = 0.005          # spent on looking in one step; whoever appends waits for it
LONG_STEP_S = 0.02      # where they append faster than that would do
STEP_RANGES = 2_000     # removed in one step


class _Sought(NamedTuple):
    """What :func:`~.reading.stretch` must know of topics to find their runs."""

    ids: frozenset
    tail: object
    sought: bool


class _Clock:
    """The time of one step, which is over when some progress was made."""

    def __init__(self, start, behind):
        self._start = start
        self._until = time.perf_counter() + (LONG_STEP_S if behind else STEP_S)

    def is_over(self, cursor):
        return cursor > self._start and time.perf_counter() > self._until


def gather_step(txn, db, state, current, behind):
    """Gather some more; the pass goes on to sweep if that was all."""
    topics, clock = state.topics.all, _Clock(current.cursor, behind)
    for run, end in _runs(txn, db, state, current):
        if run is not None:
            for at in run.places(run.at(current.cursor), current.ids):
                current.gather(topics[run.ids[at] - 1], run.batch(at, topics))
        current.cursor = end
        if current.is_full or clock.is_over(end):
            break
    else:
        current.cursor = current.end
    if current.is_full or current.cursor >= current.end:
        current.sweep()


def sweep_step(environment, state, current, behind):
    """Sweep some more; raises StoreFull if there is no room to write what stays, and then nothing has changed."""
    found, = write_step(environment, state, lambda txn, db: (_find(txn, db, state, current, behind),))
    current.cursor = found.cursor
    return Step(sum(one.count for one in found.removals), found.ended, told(found.removals))


def _runs(txn, db, state, current):
    """Yield ``(run, end)``: the runs below ``current.stop`` in which there may be topics of the pass.

    ``end`` is where to go on after that run, which is None if there is none up to there.
    """
    start = current.cursor
    few = (len(current.ids) <= MOST_SOUGHT
           and current.messages * SCAN_SHARE < state.end - state.first)
    for first, _, run in stretch(txn, db, _Sought(current.ids, state.tail, few), start):
        if first >= current.stop:
            break
        yield run, max(first, start) if run is None else run.next


def _find(txn, db, state, current, behind):
    removals, changes, written, clock = [], [], 0, _Clock(current.cursor, behind)
    for run, end in _runs(txn, db, state, current):
        gone, record = _sweep(run, state, current) if run is not None else ([], None)
        if gone:
            removals += gone
            changes.append((OFFSET.pack(run.key), record))
            written += len(record or ())
        if len(removals) >= STEP_RANGES or written >= STEP_BYTES or clock.is_over(end):
            return Found(removals, changes, end, False, True)
    return Found(removals, changes, current.stop, True, True)


def _sweep(run, state, current):
    """Return what is to go of *run*, a list of Kept, and its new record; None if nothing stays."""
    topics, stays = state.topics.all, {}
    for at in run.places(0, current.ids):
        batch = run.batch(at, topics)
        ranges = current.stays(topics[run.ids[at] - 1], batch, state.guards)
        if ranges is not None:
            stays[at] = batch, ranges
    if not stays:
        return [], None
    gone, placed = [], []
    for at, id in enumerate(run.ids):
        if at not in stays:
            placed.append((id, run.batch(at, topics)))
            continue
        batch, ranges = stays[at]
        kept = parts(batch, ranges)
        placed += [(id, part) for part in kept]
        gone += removed(topics[id - 1], batch, ranges, kept)
    return gone, Run.pack(placed, run.time_us, run.sequences) if placed else None
