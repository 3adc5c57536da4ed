"""The arguments of calls about consumers: what each is turned into, and that nothing wrong is passed over."""

import pytest

from zstreampub.consumers.options import SETTINGS
from zstreampub.errors import InvalidOption, LimitExceeded, MalformedRequest
from zstreampub.requests import parse_subscribe
from zstreampub.steering import CREATE_OPTIONS, JOIN_OPTIONS, MAX_ENTRIES, UPDATE_OPTIONS, given, parse_settling


def test_every_setting_of_a_consumer_can_be_given_by_a_client_and_no_other():
    assert set(CREATE_OPTIONS) == {"start", *SETTINGS}
    assert set(UPDATE_OPTIONS) == set(SETTINGS) - {"mode"}
    assert set(CREATE_OPTIONS) < set(JOIN_OPTIONS)


def test_what_settles_becomes_the_consumers_terms():
    assert parse_settling("ack", ["c", 5]) == ("c", 5, {})
    assert parse_settling("ack", ("c", [5, [6, 1]], None)) == ("c", [5, [6, 1]], {})
    assert parse_settling("ack", ["c", None, {"before": 9}]) == ("c", None, {"before": 9})
    assert parse_settling("nack", ["c", 5, {"delay_s": None, "reason": "x"}]) == ("c", 5, {"reason": "x"})
    assert parse_settling("reject", ["c", 5, {}]) == ("c", 5, {})
    assert parse_settling("extend", ["c", 5, 2]) == ("c", 5, {"seconds": 2})


@pytest.mark.parametrize(("verb", "args"), [
    ("ack", []), ("ack", ["c"]), ("ack", ["c", 1, {}, 2]), ("ack", None), ("ack", "c1"), ("ack", {"c": 1}),
    ("extend", ["c", 1]), ("extend", ["c", 1, 2, {}])])
def test_a_wrong_number_of_arguments_is_refused(verb, args):
    with pytest.raises(MalformedRequest, match="takes"):
        parse_settling(verb, args)


@pytest.mark.parametrize(("verb", "args"), [
    ("ack", ["c", None]), ("ack", ["c", None, {}]), ("ack", ["c", None, {"before": None}]), ("nack", ["c", None]),
    ("reject", ["c", None, {"reason": "x"}]), ("extend", ["c", None, 5]), ("extend", ["c", 1, None]),
    ("extend", ["c", 1, True]), ("ack", ["c", 1, {"token": 5}]), ("ack", ["c", 1, [5]]), ("reject", ["c", 1, "text"])])
def test_options_that_are_wrong_or_missing_are_refused(verb, args):
    with pytest.raises(InvalidOption):
        parse_settling(verb, args)


def test_so_many_deliveries_that_they_would_hold_the_hub_are_refused():
    assert len(parse_settling("ack", ["c", [1] * MAX_ENTRIES])[1]) == MAX_ENTRIES
    with pytest.raises(LimitExceeded, match="first, next, token"):
        parse_settling("ack", ["c", [1] * (MAX_ENTRIES + 1)])


def test_options_that_are_nil_are_not_set():
    assert given({"start": None, "mode": "shared"}, CREATE_OPTIONS) == {"mode": "shared"}
    assert given(None, CREATE_OPTIONS) == {}


def test_a_subscription_that_joins_may_have_the_settings_of_a_consumer_and_no_options_of_a_reader():
    options = {"consumer": "c", "ack_wait_s": 5, "held": [[1, 2]], "member": "m", "format": "batch", "start": None}

    assert parse_subscribe(None, options) == ("batch", {
        "patterns": None, "consumer": "c", "ack_wait_s": 5, "held": [[1, 2]], "member": "m"})
    for name in ("until", "epoch", "policy", "max_messages", "block_timeout_s"):
        with pytest.raises(InvalidOption, match=name):
            parse_subscribe("a", {"consumer": "c", name: 1})
    with pytest.raises(InvalidOption, match="ack_wait_s"):
        parse_subscribe("a", {"ack_wait_s": 5})
