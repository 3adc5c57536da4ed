"""A hand-over into a store with a filter that remembers, killed at each step: ``python -m tests.crashing_process``.

A step is where something is judged, written or taken note of; at each, one process is killed (a fork, so that nothing
but the disk is left of it), and the next one goes on to the end. Said at the end is how many steps there were; a store
that is not as if nobody had been killed ends this with an error.
"""

import json
import os
import signal
import sys

from tests.handing_over import Loop, begun, offsets
from zstreampub import Chain, FifoStore, LatestStore, Message
from zstreampub.disk.environment import Environment
from zstreampub.disk.journal import Journal
from zstreampub.receive import handover
from zstreampub.receive.marks import OffsetMark

FILTERS = {
    "every": [{"every": 3, "per": "key"}],
    "min_period": [{"min_period": 1.0, "by": "payload.at", "per": "topic"}],
    "both": [{"min_period": 0.3, "by": "payload.at"}, {"every": 2}],
}
STORES = {
    "fifo": lambda path: FifoStore(path, durability="relaxed"),     # which is as good where only processes die
    "latest": lambda path: LatestStore(path, by="key", durability="relaxed"),
}
STEPS = [(Chain, "__call__"), (Environment, "write"), (Environment, "_write_once"), (Journal, "append"),
         (FifoStore, "add_many"), (LatestStore, "add_many"), (OffsetMark, "stored")]
MESSAGES = [Message("a.b", offset, 1.0, {"at": offset / 4}, f"k{offset % 3}") for offset in range(14)]
TAKEN = [MESSAGES[at:end] for at, end in ((0, 1), (1, 2), (2, 6), (6, 7), (7, 12), (12, 14))]


def live(path, store, filters):
    """Hand over what is left, from where the store says."""
    with STORES[store](path) as kept:
        sink, place = begun(kept, OffsetMark("r"), Loop(), Chain(FILTERS[filters]))
        for taken in TAKEN:
            left = [message for message in taken if place is None or message.offset >= place[0]]
            if left:
                sink.take(left)
        sink.finish()


def die_at(step):
    """Have this process killed at its *step*-th step."""
    steps = iter(range(1, 1 << 30))

    def stepped(original):
        def call(*args, **options):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **options)
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

    for owner, name in STEPS:
        setattr(owner, name, stepped(getattr(owner, name)))


def was_killed(path, store, filters, step):
    """Live in a process of its own; return whether it got as far as to be killed."""
    child = os.fork()
    if child == 0:
        die_at(step)
        live(path, store, filters)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        return False
    assert os.WIFSIGNALED(status), f"the process ended with {status}"
    return True


def found(path, store):
    """Return what is in the store, and what is remembered: values without when they were used."""
    with STORES[store](path) as kept:
        stored = offsets(kept) if store == "fifo" else [kept.message(name).offset for name in kept.names()]
        memory = {key: record[-1:] for key, record in kept.memory("r").items()}
        return stored, memory, kept.mark("r")


def steps_of(folder, store, filters):
    """Kill at each step, go on, and compare with what is found where nobody is killed; return how many there were."""
    live(f"{folder}/whole", store, filters)
    expected = found(f"{folder}/whole", store)
    step = 1
    while was_killed(f"{folder}/{step}", store, filters, step):
        live(f"{folder}/{step}", store, filters)
        assert found(f"{folder}/{step}", store) == expected, f"killed at step {step}"
        step += 1
    return step - 1


if __name__ == "__main__":
    folder, store, filters, handover.MARK_S = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    print(json.dumps(steps_of(folder, store, filters)))
