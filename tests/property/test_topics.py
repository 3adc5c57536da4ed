"""Matching against a naive matcher, and a tree that forgets what is removed."""

import re

from hypothesis import given
from hypothesis import strategies as st

from zstreampub.topics import PatternSet, PatternTree, check_pattern, check_topic, is_plain, matches

TOKENS = st.sampled_from(("a", "b", "ab", "$s", "$"))
TOPICS = st.lists(TOKENS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.builds(lambda tokens, rest: ".".join(tokens + rest),
                     st.lists(st.one_of(TOKENS, st.just("*")), min_size=1, max_size=4),
                     st.sampled_from(([], [">"]))) | st.just(">")


def naive(pattern, topic):
    if topic.startswith("$") and pattern[0] in "*>":
        return False
    tokens = [re.escape(token) for token in pattern.split(".")]
    expression = r"\.".join({r"\*": r"[^.]+", ">": r".+"}.get(token, token) for token in tokens)
    return re.fullmatch(expression, topic) is not None


@given(PATTERNS, TOPICS)
def test_a_pattern_matches_what_the_naive_matcher_says(pattern, topic):
    assert matches(check_pattern(pattern), check_topic(topic)) == naive(pattern, topic)
    assert not is_plain(pattern) or (matches(pattern, topic) == (pattern == topic))


@given(st.lists(PATTERNS, min_size=1, max_size=6), st.lists(TOPICS, max_size=8))
def test_a_set_of_patterns_has_a_topic_if_one_of_them_matches(patterns, topics):
    wanted = PatternSet(patterns)

    for topic in topics * 2:    # the second time it remembers
        assert (topic in wanted) == any(naive(pattern, topic) for pattern in patterns)


@given(st.lists(st.tuples(PATTERNS, st.integers(0, 3)), max_size=12), st.lists(TOPICS, max_size=6))
def test_the_tree_finds_each_value_of_a_matching_pattern_once(filed, topics):
    tree = PatternTree()
    for pattern, value in filed:
        tree.add(pattern, value)

    for topic in topics:
        found = tree.match(topic)
        assert len(found) == len(set(found))
        assert set(found) == {value for pattern, value in filed if naive(pattern, topic)}


@given(st.lists(st.tuples(PATTERNS, st.integers(0, 3)), max_size=12, unique=True), st.data())
def test_the_tree_forgets_what_is_removed_and_nothing_else(filed, data):
    tree = PatternTree()
    for pattern, value in filed:
        tree.add(pattern, value)
    order = data.draw(st.permutations(filed))
    half = len(order) // 2

    for pattern, value in order[:half]:
        tree.remove(pattern, value)
    left = order[half:]
    for pattern, _ in filed:
        topic = pattern.replace("*", "a").replace(">", "b.c")
        assert set(tree.match(topic)) == {value for other, value in left if naive(other, topic)}
    for pattern, value in left:
        tree.remove(pattern, value)

    assert tree._root == {}
