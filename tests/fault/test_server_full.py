"""A full store: publishing is refused by name, everything else goes on, and what was answered is there."""

import pytest
import zerorpc

from tests.processes import ServerProcess, client, messages, wait_until

PAYLOAD = b"x" * 20_000


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path, max_store_bytes=8 << 20, max_message_bytes=1 << 18, max_batch_bytes=1 << 19) as server:
        yield server


def _publish_until_full(one):
    answered = []
    with pytest.raises(zerorpc.RemoteError) as refused:
        for _ in range(5_000):
            answered.append(one.publish("full.a", PAYLOAD))
    assert refused.value.name == "StoreFull"
    return answered


def test_a_full_store_refuses_publishes_and_serves_everything_else(server):
    with client(server) as one:
        stream = one.subscribe("full.>")
        next(stream)

        answered = _publish_until_full(one)

        assert len(answered) > 100
        assert [next(item for item in stream if "payload" in item)["offset"] for _ in answered] == answered
        replayed = messages(one.subscribe("full.>", {"start": "earliest", "until": "end"}))
        assert [message["offset"] for message in replayed] == answered
        assert one.get(answered[-1])["payload"] == PAYLOAD
        assert one.topics(">")[0]["messages"] == len(answered)
        assert one.about()["next"] == answered[-1] + 1
        for _ in range(20):
            with pytest.raises(zerorpc.RemoteError):
                one.publish("full.a", PAYLOAD)


def test_a_full_store_is_the_same_after_kill_and_takes_more_when_it_may(tmp_path, server):
    with client(server) as one:
        answered = _publish_until_full(one)
    server.kill()

    with server.again() as again, client(again) as one:
        got = messages(one.subscribe("full.>", {"start": "earliest", "until": "end"}))
        assert [message["offset"] for message in got] == answered
        again.kill()
    with ServerProcess(tmp_path, max_store_bytes=64 << 20) as larger, client(larger) as one:
        assert one.publish("full.a", PAYLOAD) > answered[-1]


def test_publishing_works_again_when_retention_has_made_room(tmp_path, server):
    with client(server) as one:
        answered = _publish_until_full(one)
    server.terminate()
    server.wait()

    with ServerProcess(tmp_path, max_store_bytes=8 << 20, max_message_bytes=1 << 18, max_batch_bytes=1 << 19,
                       retention=[{"pattern": ">", "max_messages": 50}], retention_interval_s=0.05) as trimmed:
        with client(trimmed) as one:
            wait_until(lambda: one.about()["first"] >= answered[-50] - 1, "retention")

            more = [one.publish("full.a", PAYLOAD) for _ in range(len(answered))]

            assert more[0] > answered[-1] and more == sorted(set(more))
