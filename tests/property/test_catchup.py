"""Whatever is appended and trimmed between two looks, who catches up knows what the writer knows and misses nothing."""

import tempfile

import hypothesis.strategies as st
from hypothesis import given, settings

from tests.catching import Catching
from tests.store_tools import Stores, contents, read_all
from zstreampub.message import Batch
from zstreampub.store import Append
from zstreampub.topics import PatternSet

TOPICS = ["a", "b.x", "b.y", "c"]
_append = st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(1, 3)), min_size=1, max_size=4)
_steps = st.lists(st.one_of(
    st.tuples(st.just("append"), _append),
    st.tuples(st.just("trim"), st.sampled_from(["a", "b.*", ">"]), st.integers(0, 8)),
    st.tuples(st.just("look")),
), max_size=25)


@settings(deadline=None, max_examples=60)
@given(_steps)
def test_every_message_is_told_or_lies_in_a_stretch_that_is_torn(steps):
    with tempfile.TemporaryDirectory() as folder:
        stores = Stores("lmdb", folder)
        store, follower = stores.open()
        catching, torn, begun = Catching(store), [], 0
        for step in [*steps, ("look",)]:
            if step[0] == "append":
                follower.append_all([Append([Batch.of(topic, list(range(count)))]) for topic, count in step[1]])
            elif step[0] == "trim":
                store.trim(PatternSet([step[1]]), max(store.bounds()[1] - step[2], 0))
            else:
                for one in catching.catch_up():
                    torn += [(begun, one.end)] if one.torn else []
                    begun = one.end
                catching.check()

        told = contents(catching.batches)
        kept = contents(read_all(store)[0])
        assert told == sorted(set(told))
        assert all(one in told or any(first <= one[0] < next for first, next in torn) for one in kept)
        stores.close_all()
