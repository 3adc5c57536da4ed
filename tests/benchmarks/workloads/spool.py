"""Keep received messages on disk: add them, look at the first and remove it; one by one, in groups, from 64 at once.

One process and no server. What a peer promises of each message stands beside its figure: one that never
syncs the disk loses what it has answered in a power cut. One by one, two peers take turns at each message.
"""

from functools import partial

from .. import spools
from ..workload import FSYNC, FSYNC_EACH, Case, Ratio, Workload, figures

_SINGLES = 2_000
_GROUPED = 200_000
_SLOW_GROUPED = 2_000       # of peers that sync for each message
_GROUP = 1_000
_MANY = 64

_CACHE = "none: in the system's cache"
_SYNC_GROUP = "fsync, one a group"

_OURS = "FifoStore"
_PERSIZMQ, _PERSIZMQ_SYNCED = "persizmq", "persizmq + fsync"
_FIFO, _ACK, _FILE = "FIFOSQLiteQueue", "SQLiteAckQueue", "file Queue"

_PAIRS = [      # ours, peer, durability of both
    (spools.Ours, _FIFO, spools.FifoSQLite, FSYNC_EACH), (spools.Ours, _ACK, spools.AckSQLite, FSYNC_EACH),
    (spools.Ours, _PERSIZMQ_SYNCED, spools.PersizmqSynced, FSYNC_EACH),
    (spools.OursRelaxed, _PERSIZMQ, spools.Persizmq, f"relaxed; {_CACHE}"),
    (spools.OursRelaxed, _FILE, spools.FileQueue, f"relaxed; {_CACHE}")]
_GROUP_PEERS = {     # verb -> name, peer, durability, messages
    "add": [(_OURS, spools.Ours, _SYNC_GROUP, _GROUPED),
            (_PERSIZMQ, spools.Persizmq, _CACHE, _GROUPED // 10),
            (_PERSIZMQ_SYNCED, spools.PersizmqSynced, FSYNC_EACH, _SLOW_GROUPED),
            (_FIFO, spools.FifoSQLiteGroups, FSYNC_EACH, _SLOW_GROUPED),
            (_ACK, spools.AckSQLite, FSYNC_EACH, _SLOW_GROUPED),
            (_FILE, spools.FileQueueGroups, _CACHE, _GROUPED // 10)],
    "take": [(_OURS, spools.Ours, _SYNC_GROUP, _GROUPED),
             (_PERSIZMQ, spools.Persizmq, _CACHE, _GROUPED // 10),
             (_PERSIZMQ_SYNCED, spools.PersizmqSynced, FSYNC_EACH, _SLOW_GROUPED),
             (_FIFO, spools.FifoSQLiteGroups, _SYNC_GROUP, _SLOW_GROUPED),
             (_ACK, spools.AckSQLite, FSYNC_EACH, _SLOW_GROUPED),
             (_FILE, spools.FileQueueGroups, _CACHE, _GROUPED // 10)]}
_MANY_PEERS = [(_OURS, spools.Ours, FSYNC, 4 * _SINGLES), (_FIFO, spools.FifoSQLite, FSYNC_EACH, _SINGLES),
               (_ACK, spools.AckSQLite, FSYNC_EACH, _SINGLES),
               (_PERSIZMQ_SYNCED, spools.PersizmqSynced, FSYNC_EACH, _SINGLES)]


def _in_turn(verb, ours, peer, stage, scale):
    messages = scale.of(_SINGLES)
    measured = stage.run([stage.start(spools.in_turn, ours, peer, verb, stage.folder, messages)])
    spent, peers_spent = measured.results[0]["spent"]
    return {"rate": messages / spent, "peer_rate": messages / peers_spent}


def _run(actor, peer, messages, group, many, stage, scale):
    messages = max(scale.of(messages) // max(group, many), 1) * max(group, many)
    arguments = (peer, stage.folder, messages, group, *((many,) if many > 1 else ()))
    return figures(stage.run([stage.start(actor, *arguments)]), messages)


def _beside(verb, name):
    return f"{verb} one: {_OURS}, {name}"


def _cases():
    for verb, actor in (("add", spools.add), ("take", spools.take)):
        for ours, name, peer, durability in _PAIRS:
            yield Case(_beside(verb, name), durability, partial(_in_turn, verb, ours, peer))
        for name, peer, durability, messages in _GROUP_PEERS[verb]:
            yield Case(f"{verb} {_GROUP}: {name}", durability, partial(_run, actor, peer, messages, _GROUP, 1))
    for name, peer, durability, messages in _MANY_PEERS:
        yield Case(f"{_MANY} threads add: {name}", durability, partial(_run, spools.add, peer, messages, 1, _MANY))
    yield Case(f"{_MANY} greenlets add: {_OURS}", FSYNC,
               partial(_run, spools.add_green, spools.Ours, 10 * _SINGLES, 1, _MANY))


def _ratios():
    for verb in ("add", "take"):
        for _, name, _, _ in _PAIRS:
            yield Ratio(_beside(verb, name), _beside(verb, name), "1", "rate", "peer_rate")
        for name, _, durability, _ in _GROUP_PEERS[verb][1:]:
            yield Ratio(f"{verb} {_GROUP}: {_OURS}", f"{verb} {_GROUP}: {name}", "" if durability == _CACHE else "10")
    for name, *_ in _MANY_PEERS[1:]:
        yield Ratio(f"{_MANY} threads add: {_OURS}", f"{_MANY} threads add: {name}")


WORKLOAD = Workload("spool", "Keep received messages on disk, 100 bytes each", "messages/s",
                    list(_cases()), list(_ratios()))
