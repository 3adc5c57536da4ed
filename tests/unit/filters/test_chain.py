"""A chain of filters in a program: what it takes, what it returns, and what it remembers over a restart."""

import math
import os
import subprocess
import sys
from datetime import datetime, timezone

import pytest

from zstreampub import Chain, Message
from zstreampub.client.delivery import Delivery
from zstreampub.client.leases import Lease
from zstreampub.codecs import encode_one
from zstreampub.errors import InvalidOption, StoreError, StoreLocked, StoreVersion
from zstreampub.filters import kept
from zstreampub.payload import pack_payload
from zstreampub.stores import open_store


def passed(chain, values):
    return [value for value in values if chain(value) is not None]


def test_none_passes_through_so_that_chains_can_stand_one_behind_the_other():
    small, every_other = Chain({"max_size": 3}), Chain({"every": 2})

    assert small(None) is None
    assert [every_other(small(value)) for value in (b"1", b"1234", b"2", b"3")] == [b"1", None, None, b"3"]


def test_the_size_of_plain_bytes_is_their_number():
    chain = Chain({"max_size": 3})

    assert passed(chain, [b"123", b"1234", bytearray(4), b""]) == [b"123", b""]


@pytest.mark.parametrize("payload, content_type, written", [
    (datetime(2024, 5, 1, tzinfo=timezone.utc), "cbor", None),
    ({1: {"tags"}}, "cbor", None),
    ({"total": 10}, "json", b'{"total":10}'),
    (math.nan, "json", math.nan),       # not written by us
    ("text", None, "text"),
], ids=repr)
def test_the_size_of_a_message_is_that_in_the_log_whatever_its_content_type(payload, content_type, written):
    value, headers = (payload, {}) if content_type is None else (written, {"content-type": content_type})
    if written is None:
        value, headers = encode_one(payload, None, content_type)
    size = len(pack_payload(value))
    message = Message("a", 0, 0.0, payload, headers=headers)

    passes = [Chain({"max_size": limit})(message) is message for limit in (size - 1, size)]

    assert passes == [False, True]


def test_a_plain_value_is_a_payload_that_came_now():
    chain = Chain({"where": {"payload.n": {"ge": 2}, "key": {"exists": False}, "topic": {"exists": False}}})

    assert passed(chain, [{"n": 1}, {"n": 2}, 3]) == [{"n": 2}]
    assert passed(Chain({"min_period": 3600}), [b"a", b"b"]) == [b"a"]
    assert Chain({"headers_only": True})(b"x") is None, "it has no headers"


def test_a_delivery_without_its_payload_can_still_be_acknowledged():
    said = []

    class Home:
        def settle(self, key, delivery):
            said.append(delivery.offset)

    delivery = Delivery(Message("a", 7, 1.0, {"n": 1}, headers={"h": 2}), Lease(1, 1, 0.0, 0.0), Home())

    bare = Chain([{"headers_only": True}, {"where": {"payload.n": 1}}])(delivery)
    bare.ack()

    assert (bare.payload, bare.headers, bare.offset, delivery.payload) == (None, {"h": 2}, 7, {"n": 1})
    assert said == [7]


def test_a_wrong_filter_is_refused_when_the_chain_is_made(tmp_path):
    with pytest.raises(InvalidOption):
        Chain({"max_sise": 1})
    with pytest.raises(InvalidOption, match="durability is sync or relaxed"):
        Chain({"every": 2}, path=tmp_path / "kept", durability="often")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("per", [None, "topic", "key"])
def test_what_is_remembered_survives_a_restart(tmp_path, per):
    messages = [Message("a", at, 100.0, at, "k") for at in range(5)]
    filters = [{"every": 2, "per": per}, {"min_period": 10, "per": per}]
    with Chain(filters, path=tmp_path / "kept") as chain:
        assert passed(chain, messages) == messages[:1]

    with Chain(filters, path=tmp_path / "kept") as chain:
        late = [Message("a", 9, 109.0, 9, "k"), Message("a", 10, 109.5, 10, "k"), Message("a", 11, 110.0, 11, "k"),
                Message("a", 12, 110.0, 12, "k")]

        assert passed(chain, late) == [late[3]], "the second of each two, and not before 110"


def test_arrivals_are_remembered_by_the_calendar(tmp_path):
    with Chain({"min_period": 3600, "by": "arrival"}, path=tmp_path / "kept") as chain:
        assert passed(chain, [b"a", b"b"]) == [b"a"]

    with Chain({"min_period": 3600, "by": "arrival"}, path=tmp_path / "kept") as chain:
        assert passed(chain, [b"c"]) == []


def test_the_longest_topic_and_key_can_be_remembered(tmp_path):
    message = Message("t" * 255, 0, 1.0, None, "k" * 255)
    with Chain({"min_period": 10, "per": "key"}, path=tmp_path / "kept") as chain:
        chain(message)

    with Chain({"min_period": 10, "per": "key"}, path=tmp_path / "kept") as chain:
        assert chain(message) is None


def test_what_other_filters_remembered_is_forgotten(tmp_path):
    with Chain({"every": 2}, path=tmp_path / "kept") as chain:
        chain(b"x")
    with Chain({"every": 2, "per": "topic"}, path=tmp_path / "kept") as chain:
        assert chain(b"x") == b"x"

    with Chain({"every": 2}, path=tmp_path / "kept") as chain:
        assert chain(b"x") == b"x"


def test_a_group_that_was_forgotten_is_forgotten_on_disk_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr("zstreampub.filters.rates.MAX_GROUPS", 2)
    messages = [Message("a", at, 1.0, at, str(at)) for at in range(4)]
    with Chain({"min_period": 10, "per": "key"}, path=tmp_path / "kept") as chain:
        passed(chain, messages)

    with Chain({"min_period": 10, "per": "key"}, path=tmp_path / "kept") as chain:
        assert passed(chain, messages[2:]) == []
        assert passed(chain, messages[:1]) == messages[:1]


def test_after_a_kill_a_message_too_many_may_pass_and_none_too_few(tmp_path):
    code = """if True:
        import os, sys
        from zstreampub import Chain, Message
        from zstreampub.filters import kept
        kept.SAVE_S = float(sys.argv[2])
        chain = Chain({"min_period": 10, "per": "key"}, path=sys.argv[1])
        assert chain(Message("a", 0, 100.0, 0, "k")) is not None
        os.kill(os.getpid(), 9)
    """
    for save_s, passes in ((0, False), (3600, True)):
        path = str(tmp_path / f"kept{save_s}")
        assert subprocess.run([sys.executable, "-c", code, path, str(save_s)], timeout=60).returncode == -9

        with Chain({"min_period": 10, "per": "key"}, path=path) as chain:
            assert (chain(Message("a", 1, 105.0, 1, "k")) is not None) is passes
            assert chain(Message("a", 2, 110.0 + 5 * passes, 2, "k")) is not None, "none too few"


def test_a_directory_is_open_to_one_chain_at_a_time_and_free_after_closing(tmp_path):
    with Chain({"every": 2}, path=tmp_path / "kept") as chain:
        with pytest.raises(StoreLocked):
            Chain({"every": 2}, path=tmp_path / "kept")
        chain.close()

        Chain({"every": 2}, path=tmp_path / "kept").close()


def test_the_directory_of_a_log_is_refused_and_left_as_it_is(tmp_path):
    open_store(f"lmdb:{tmp_path / 'log'}").close()

    with pytest.raises(StoreVersion, match="not the memory of a filter chain"):
        Chain({"every": 2}, path=tmp_path / "log")

    open_store(f"lmdb:{tmp_path / 'log'}").close()


def test_a_disk_that_takes_nothing_does_not_stop_the_messages(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(kept, "SAVE_S", 0.0)

    def refuse(*_, **__):
        raise StoreError("no room")

    with Chain({"every": 2}, path=tmp_path / "kept") as chain:
        write = chain._kept._environment.write
        monkeypatch.setattr(chain._kept._environment, "write", refuse)
        assert passed(chain, [1, 2, 3]) == [1, 3]
        assert "no room" in caplog.text
        monkeypatch.setattr(chain._kept._environment, "write", write)

    with Chain({"every": 2}, path=tmp_path / "kept") as chain:
        assert passed(chain, [4]) == [], "it was written once there was room"


def test_importing_a_chain_loads_no_lmdb():
    code = ("import sys; from zstreampub import Chain; Chain({'every': 2})(1); "
            "assert not {'lmdb', 'gevent', 'zmq'} & set(sys.modules)")

    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, timeout=60).returncode == 0
