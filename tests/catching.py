"""A state that catches up with a store of this process, by the snapshots that the store's own environment lends."""

from tests.store_tools import read_all
from zstreampub.settings import Settings
from zstreampub.stores.catchup import FollowedState


class Catching:
    """A state that follows *store*, and what it was told."""

    def __init__(self, store):
        self._store = store
        store.show(lambda: None)
        self.state = FollowedState(Settings())
        store._environment.read(self.state.load)
        self.batches = []
        self.steps = []

    def catch_up(self):
        """Take everything that is there; return the steps that it took."""
        steps = [self._step()]
        while steps[-1].more:
            steps.append(self._step())
        self.steps += steps
        return steps

    def _step(self):
        step = self._store._environment.read(self.state.step)
        assert step.end == self.state.end
        self.batches += step.batches
        return step

    def check(self):
        """Fail unless it knows what the writer knows."""
        ours, theirs = self.state, self._store._state
        assert (ours.epoch, ours.first, ours.end, ours.mark, ours.time_us) == (
            theirs.epoch, theirs.first, theirs.end, theirs.mark, theirs.time_us)
        assert [counters(topic) for topic in ours.topics.all] == [counters(topic) for topic in theirs.topics.all]
        kept = {batch.first for batch in read_all(self._store)[0]}
        assert (ours.tail.first, tail_of(ours, kept)) == (theirs.tail.first, tail_of(theirs, kept))


def tail_of(state, kept):
    """Return of the tail what is still in the log, batches that begin at *kept*: the rest may have gone unseen."""
    return ([key for key, _ in state.tail.runs if key in kept],
            {digest: offset for digest, offset in state.tail.keys.items() if kept & {offset, offset - 1}})


def counters(topic):
    return {name: getattr(topic, name) for name in topic.__slots__ if name != "limits"}
