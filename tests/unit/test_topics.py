"""The grammar of topics and patterns, to the limits."""

import pytest

from zstreampub.errors import InvalidTopic
from zstreampub.topics import PatternTree, check_pattern, check_topic, matches

LONGEST = "t" * 255
DEEPEST = ".".join("t" * 32)


@pytest.mark.parametrize("topic", [
    "a", "a.b", "$s", "größe.東京", "a-b_c.D9", LONGEST, DEEPEST, "ü" * 127, "$", "a.$b"])
def test_a_good_topic_is_taken_as_topic_and_as_pattern(topic):
    assert check_topic(topic) == check_pattern(topic) == topic


@pytest.mark.parametrize("name", [
    "", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\n", "\x00", "a.\x7f", "a\x85", "a\x9f", "a\u2028b", "a\u00a0b",
    "x" * 256, "ü" * 128, DEEPEST + ".t", "\udc80", None, 5, b"a", ["a"], {}], ids=lambda name: repr(name)[:20])
def test_a_bad_name_is_neither_topic_nor_pattern(name):
    with pytest.raises(InvalidTopic):
        check_topic(name)
    with pytest.raises(InvalidTopic):
        check_pattern(name)


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "a.>", "*.*.b", "*.>", "$s.*", ".".join("*" * 32)])
def test_wildcards_stand_in_patterns_only(pattern):
    assert check_pattern(pattern) == pattern
    with pytest.raises(InvalidTopic):
        check_topic(pattern)


@pytest.mark.parametrize("pattern", [">.a", "a.>.b", "a*", "*a", "a>", ">>", "**", "a.**", "a.b>"])
def test_a_wildcard_is_a_whole_token_and_the_rest_comes_last(pattern):
    with pytest.raises(InvalidTopic):
        check_pattern(pattern)


@pytest.mark.parametrize(("pattern", "topic", "answer"), [
    (">", "$s.x", False), ("*", "$s", False), ("*.x", "$s.x", False), ("$s.>", "$s.x", True), ("$s.*", "$s.x", True),
    ("a.*", "a.$x", True), ("a.>", "a", False), ("a.>", "a.b", True), ("a.>", "a.b.c", True), ("a.*", "a.b.c", False)])
def test_wildcards_match_as_written_and_leave_system_topics_alone(pattern, topic, answer):
    tree = PatternTree()
    tree.add(pattern, "value")

    assert matches(pattern, topic) is answer
    assert tree.match(topic) == (("value",) if answer else ())


def test_the_error_says_what_is_wrong():
    with pytest.raises(InvalidTopic, match="at most 32 tokens, this one has 33"):
        check_topic(DEEPEST + ".t")
    with pytest.raises(InvalidTopic, match="1 to 255 bytes, this one has 256"):
        check_topic("x" * 256)
