"""Loading: finds again what was written down of the consumers, see journal.py. Waits for the store."""

import gc

from ..errors import StoreCorrupt
from ..store import Gap
from ..topics import PatternSet
from . import journal
from .options import Options
from .state import ConsumerState

_ROWS = 1_000


def load(home, writing):
    """Make the consumers of *home* as they were when the store was closed, however it was."""
    collecting = gc.isenabled()
    gc.disable()        # a million leases are no garbage, and looking at them again and again takes the longest
    try:
        _load(home, writing)
    finally:
        if collecting:
            gc.enable()


def _load(home, writing):
    by_id = {}
    for _, packed in rows(home.store, journal.TOKEN):
        writing.token = journal.unpack_token(packed)
    for _, packed in rows(home.store, journal.HEADS):
        consumer, replay = _open(home, journal.unpack_head(packed))
        by_id[consumer.state.id] = replay
        writing.token = max(writing.token, consumer.state.id)
        for _, value in rows(home.store, journal.parts_prefix(consumer.state.id, consumer.state.part)):
            replay.part(value)
        for key, value in rows(home.store, journal.instead_prefix(consumer.state.id)):
            consumer.instead[journal.instead_offset(key)] = value
    for number, packed in home.store.journal():
        writing.journal_next = number + 1
        change = journal.unpack_change(packed)
        if change is None:
            continue
        writing.weight += len(packed)
        writing.token = max(writing.token, change[0])
        for id, *told in change[1]:
            if id in by_id:
                by_id[id].change(*told)
    now = home.clock.now()
    for consumer in home.by_name.values():
        consumer.state.restore(now, home.settings.rejoin_grace_s)
        consumer.dirty = True
        for offset in [one for one in consumer.instead if one not in consumer.state.pending
                       and (one < consumer.state.cursor or one in consumer.state.ahead)]:
            del consumer.instead[offset]        # it was settled, and there was no time to say so
        for lease in consumer.state.pending.values():
            writing.token = max(writing.token, lease.token)
    if home.by_name or writing.token:
        writing.skip_tokens()


def _open(home, head):
    if head.get("format") != journal.FORMAT:
        raise StoreCorrupt(f"The consumer {head.get('name')!r} was written in format {head.get('format')}; this "
                           f"program reads {journal.FORMAT}.")
    state = ConsumerState(head["id"], head["cursor"], head["trims"])
    state.ahead = set(head["ahead"])
    state.acked, state.redelivered, state.part = head["acked"], head["redelivered"], head["part"]
    options = Options(**{**head["options"], "backoff_s": tuple(head["options"]["backoff_s"])})
    consumer = home.add(head["name"], PatternSet(head["patterns"]), options, state, head["created"])
    consumer.paused = head["paused"]
    consumer.gaps = [Gap(*gap) for gap in head["gaps"]]
    consumer.dead.first, consumer.dead.done = head["dead"]["first"], set()
    consumer.dead.settle(head["dead"]["done"])
    return consumer, journal.Replay(state, consumer.dead, home.clock)


def rows(store, prefix):
    """Yield all records whose keys begin with *prefix*."""
    after = None
    while found := store.records(prefix, after, _ROWS):
        yield from found
        after = found[-1][0]
