"""What is picked out of packed maps is what would be found in them decoded; what cannot be picked is decoded."""

from datetime import datetime, timezone

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstreampub.filters import opened, picked
from zstreampub.filters.opened import OpenedBatch
from zstreampub.filters.picked import MISSING, looked_up
from zstreampub.filters.sieve import Sieve
from zstreampub.message import Batch

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-2**63, 2**64 - 1), st.floats(), st.text(), st.binary())
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text(max_size=3) | st.binary(max_size=3), inner, max_size=3), max_leaves=8)
MAPS = st.dictionaries(st.sampled_from(["a", "b", "", "ü", "value"]), VALUES)
GOOD = {"n": 1, "text": "x"}


class Counted(OpenedBatch):
    """``decoded`` tells which payloads were decoded whole."""

    def __init__(self, batch):
        super().__init__(batch)
        self.decoded = []

    def _decode(self, start, stop):
        self.decoded.append((start, stop))
        return super()._decode(start, stop)


def packed_maps(values):
    raws = [msgpack.packb(one) for one in values]
    return b"".join(raws), tuple(map(len, raws))


def batch_of(*raws):
    return Batch.assemble("a", [raw if isinstance(raw, bytes) else msgpack.packb(raw) for raw in raws], {})


def passing(where, batch):
    return [message.offset for part in Sieve({"where": where}).parts(OpenedBatch(batch)) if part is not None
            for message in part.messages()]


@given(st.lists(MAPS, min_size=1), st.sampled_from(["a", "ü", "", "value", "nowhere"]))
def test_what_is_picked_is_what_the_decoded_maps_have(maps, name):
    found = picked.picked(name, *packed_maps(maps))

    assert repr(found) == repr(looked_up(maps, name))       # as NaN is not equal to itself


@pytest.mark.parametrize("other", [
    *map(msgpack.packb, (7, [1], b"bytes", {b"n": 2}, {3: 4, "n": 1})), b"\xc1", b"\x92\x01", b"\x81\xa1n"], ids=repr)
def test_a_batch_with_anything_else_is_decoded_and_has_the_same_fields(other):
    batch = batch_of(GOOD, other, GOOD)

    assert picked.picked("n", b"".join(batch.raw_payloads), tuple(map(len, batch.raw_payloads))) is None
    assert passing({"payload.n": 1}, batch) == [0, 2]
    assert passing({"payload.n": {"exists": False}}, batch) == [1]


def test_a_broken_payload_that_eats_of_the_next_is_found_out():
    whole = msgpack.packb({"n": 1, "m": 1})
    batch = batch_of(whole[:3], whole[3:])      # together they are one value

    pair = batch_of(b"\x81\xa1n\x92\x01", b"\x02\x81\xa1n\x01")     # together they are two
    assert passing({"payload": {"exists": True}}, batch) == [0, 1]
    assert passing({"payload.n": {"exists": True}}, batch) == []
    assert passing({"payload.n": {"exists": True}}, pair) == []


@pytest.mark.parametrize("claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                                   b"\x91" * 100_000 + b"\x01"], ids=["list", "map", "bytes", "deep"])
def test_a_payload_that_claims_more_than_it_has_costs_nothing_and_has_no_field(claim):
    batch = batch_of(GOOD, b"\x81\xa1n" + claim)

    assert passing({"payload.n": {"exists": True}}, batch) == [0]


def test_a_timestamp_is_the_same_time_picked_and_decoded():
    at = datetime(2024, 5, 1, 12, 0, 0, 123456, timezone.utc)
    one = msgpack.packb({"at": msgpack.Timestamp.from_datetime(at), "n": 1}, datetime=True)
    sieves = [Sieve({"min_period": 0.5, "by": "payload.at"}) for _ in range(2)]

    for sieve, others in zip(sieves, ([], [7])):        # 7 is no map: nothing is picked then
        list(sieve.parts(OpenedBatch(batch_of(one, *others))))

    numbers = [list(sieve._parsed.rates[0].groups.values()) for sieve in sieves]
    assert numbers == [[round(at.timestamp() * 1e6)]] * 2


def test_few_names_are_picked_and_of_many_the_payloads_are_decoded_once():
    batch = batch_of(*[dict.fromkeys("abcdef", at) for at in range(5)])
    one = Counted(batch)

    columns = [one.named(name, 5) for name in "abcdefabcdef"]

    assert columns == [[0, 1, 2, 3, 4]] * 12
    assert one.decoded == [(0, 5)]
    assert len(one._named) > opened._MOST_PICKED


def test_a_payload_that_cannot_be_picked_has_only_its_own_piece_of_the_batch_decoded():
    batch = batch_of(*[GOOD] * 6, 7, GOOD)
    one = Counted(batch)

    for stop in (2, 4, 6, 8):
        found = one.named("n", stop)

    assert found == [1] * 6 + [MISSING, 1]
    assert one.decoded == [(6, 8)]


def test_without_the_package_all_is_decoded_once_and_passes_the_same(monkeypatch):
    monkeypatch.setattr(picked, "msgspec", None)
    batch = batch_of({"n": 1, "m": 1}, {"n": 2, "m": 1}, {"n": 1, "m": 2})
    one = Counted(batch)

    parts = list(Sieve({"where": {"payload.n": 1, "payload.m": 1}}).parts(one))

    assert [part.payloads for part in parts] == [[{"n": 1, "m": 1}]]
    assert one.decoded == [(0, 3)]
