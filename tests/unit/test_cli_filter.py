"""``--filter``: a comparison or JSON, as people type it."""

import pytest

from zstreampub.cli.filtering import parse_filter


@pytest.mark.parametrize("text, where", [
    ("payload.total >= 10", {"payload.total": {"ge": 10}}),
    ("payload.total>=10.5", {"payload.total": {"ge": 10.5}}),
    ("payload.n<-1", {"payload.n": {"lt": -1}}),
    ("payload.n > 1", {"payload.n": {"gt": 1}}),
    ("payload.n <= 1", {"payload.n": {"le": 1}}),
    ("payload.status = paid", {"payload.status": {"eq": "paid"}}),
    ("payload.status == paid", {"payload.status": {"eq": "paid"}}),
    ('payload.id = "7"', {"payload.id": {"eq": "7"}}),
    ("payload.done != true", {"payload.done": {"ne": True}}),
    ("payload.x = null", {"payload.x": {"eq": None}}),
    ("headers.content-type = text/plain; a=b", {"headers.content-type": {"eq": "text/plain; a=b"}}),
    ("key = [1]", {"key": {"eq": "[1]"}}),
    ("key =", {"key": {"eq": ""}}),
    ("topic >= NaN", {"topic": {"ge": "NaN"}}),
])
def test_a_comparison_is_a_field_an_operator_and_a_value(text, where):
    assert parse_filter(text) == {"where": where}


def test_json_may_say_everything():
    text = '{"where": {"payload.a=b": {"in": ["x", 1]}, "key": {"exists": true}}}'

    assert parse_filter(text) == {"where": {"payload.a=b": {"in": ["x", 1]}, "key": {"exists": True}}}


@pytest.mark.parametrize("text, sentence", [
    ("payload.total", "write 'payload.total >= 10', or JSON"),
    ("", "write 'payload.total >= 10', or JSON"),
    ("payload.total => 10", "write 'payload.total >= 10', or JSON"),
    ("payload.total <> 10", "write 'payload.total >= 10', or JSON"),
    ("payload.total === 10", "write 'payload.total >= 10', or JSON"),
    ("payloads.x = 1", "There is no field 'payloads.x'"),
    ("payload.total >= true", "a bound is a number"),
    ('{"max_sise": 1}', "A filter is a map with one of"),
    ('{"where": {"payload.x": NaN}}', "NaN is no number"),
    ('{"max_size": 1', "is no filter"),
    ("[]", "A filter is a map"),
])
def test_what_is_no_filter_is_refused_with_what_would_be(text, sentence):
    with pytest.raises(ValueError) as caught:
        parse_filter(text)

    assert sentence in str(caught.value)
