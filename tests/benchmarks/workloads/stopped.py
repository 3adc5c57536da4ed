"""One of 10 subscribers is in a process that is stopped (SIGSTOP) while batches are published at full speed.

The rate is that of the other nine. The server's memory is that which is its own, from before the first message
to the most that was seen: full speed takes some, and what a stopped subscriber takes is the difference.
The stopped one goes on later and must get everything, or be told what it does not get.
Under ``block`` it is the publisher that is held, and the others with it, until the block timeout is over.
"""

import os
import signal
import time
from functools import partial

from .. import actors
from ..payloads import BATCH, Runs
from ..peers import ALWAYS, EVERYSEC, NATS, OURS, spread
from ..stage import private_bytes
from ..workload import Case, Ratio, Workload, figures

_BYTES = 1024
_BATCHES = 300
_OTHERS = 9
_LATE_S = 80
_POLICIES = ["spill", "drop", "drop_oldest", "conflate", "disconnect", "block"]


def _deliver(peer, stops, policy, stage, scale):
    where, batches = peer.start(stage), int(scale.of(_BATCHES) * (1 if peer is OURS else 0.3))
    messages, sink = batches * BATCH, partial(Runs, _BYTES)
    others = [stage.start(peer.subscribe, where, share, messages, sink) for share in spread(_OTHERS)]
    if peer is OURS:
        one = stage.start(actors.subscribe_losing, where, messages, _BYTES, policy)
    else:
        one = stage.start(peer.subscribe, where, 1, messages, sink)
    publisher = stage.start(peer.publish_batches, where, 0, batches, _BYTES)
    before, sizes = private_bytes(stage.server), []

    def meanwhile():
        if stops:
            os.kill(one.pid, signal.SIGSTOP)
        ends = time.monotonic() + _LATE_S
        while not all(other.has_result() for other in others) and time.monotonic() < ends:
            sizes.append(private_bytes(stage.server))
            time.sleep(0.05)
        if stops:
            os.kill(one.pid, signal.SIGCONT)

    measured = stage.run([publisher], [*others, one], meanwhile)
    live = measured.results[:-1]
    seconds = max(result["ended"] for result in live) - live[0]["began"]
    return figures(measured._replace(seconds=seconds), _OTHERS * messages,
                   grown_mib=(max(sizes, default=before) - before) / 2**20,
                   lost=measured.results[-1].get("lost", 0))


def _name(peer, policy=None):
    return f"{peer.name}, {'none stopped' if policy is None else 'one stopped' + (policy and f' ({policy})')}"


WORKLOAD = Workload(
    "stopped", "One of 10 subscribers is stopped while batches of 1 KiB are published: what the other 9 get",
    "deliveries/s to the others",
    [
        Case(_name(OURS), OURS.durability, partial(_deliver, OURS, False, "spill")),
        *(Case(_name(OURS, policy), OURS.durability, partial(_deliver, OURS, True, policy))
          for policy in _POLICIES),
        *(case for peer in (ALWAYS, EVERYSEC, NATS) for case in (
            Case(_name(peer), peer.durability, partial(_deliver, peer, False, "")),
            Case(_name(peer, ""), peer.durability, partial(_deliver, peer, True, "")))),
    ],
    [
        *(Ratio(_name(OURS, policy), _name(OURS), "held" if policy == "block" else "0.97") for policy in _POLICIES),
        *(Ratio(_name(OURS, policy), _name(OURS), "< 32", "grown_mib", minus=True) for policy in _POLICIES),
        *(Ratio(_name(peer, ""), _name(peer)) for peer in (ALWAYS, EVERYSEC, NATS)),
    ],
    "W7",
)
