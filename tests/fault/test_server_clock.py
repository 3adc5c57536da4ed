"""The wall clock jumps: offsets, times and live streams do not."""

import pytest

from tests.processes import ServerProcess, client, messages, wait_until

HOUR_S = 3_600


@pytest.fixture
def clock(tmp_path):
    """A file: what stands in it is by how many seconds the server's clock is wrong."""
    file = tmp_path / "clock"
    file.write_text("0")
    return file


@pytest.fixture(params=["lmdb", "memory"])
def server(request, tmp_path, clock):
    store = None if request.param == "lmdb" else "memory:"
    with ServerProcess(tmp_path, store, clock=clock, heartbeat_s=0.4) as server:
        yield server


def test_offsets_grow_and_times_never_step_back_when_the_clock_does(server, clock):
    with client(server, heartbeat=0.4) as one:
        before = [one.publish("a", n) for n in range(5)]

        clock.write_text(str(-HOUR_S))
        behind = [one.publish("a", n) for n in range(5, 10)]
        clock.write_text(str(HOUR_S))
        ahead = [one.publish("a", n) for n in range(10, 15)]

        got = messages(one.subscribe("a", {"start": "earliest", "until": "end"}))
        times = [message["time"] for message in got]
        assert [message["offset"] for message in got] == before + behind + ahead
        assert [message["payload"] for message in got] == list(range(15))
        assert times == sorted(times)
        assert times[-1] - times[0] >= HOUR_S - 60


def test_a_start_by_time_finds_what_was_stored_from_then_on(server, clock):
    with client(server, heartbeat=0.4) as one:
        old = [one.publish("a", n) for n in range(3)]
        clock.write_text(str(HOUR_S))
        new = [one.publish("a", n) for n in range(3, 6)]
        clock.write_text(str(-HOUR_S))
        newest = one.publish("a", 6)
        first_time = one.get(old[0])["time"]

        def found(seconds):
            items = one.subscribe("a", {"start": {"time": seconds}, "until": "end"})
            return [message["offset"] for message in messages(items)]

        assert found(0) == old + new + [newest]
        assert found(first_time) == old + new + [newest]
        assert found(first_time + HOUR_S / 2) == new + [newest]
        assert found(one.get(new[0])["time"]) == new + [newest]
        assert found(first_time + 10 * HOUR_S) == []


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_no_stream_is_lost_when_the_clock_jumps(server, clock, jump_s):
    with client(server, heartbeat=0.4) as one:
        stream = one.subscribe("a")
        next(stream)
        looks = _looks(one)

        clock.write_text(str(jump_s))
        wait_until(lambda: _looks(one) > looks + 80, "four heartbeats' worth of looks at the channels")
        one.publish("a", "still there")

        assert next(item for item in stream if "payload" in item)["payload"] == "still there"
        assert one.stats()["server"]["lost_peers"] == 0


def _looks(one):
    return one.stats()["server"]["hub_lag_us"]["count"]


def test_offsets_and_times_go_on_when_the_server_comes_back_with_an_earlier_clock(tmp_path, clock):
    with ServerProcess(tmp_path, clock=clock) as server:
        with client(server) as one:
            before = [one.publish("a", n) for n in range(5)]
        server.terminate()
        server.wait()
        clock.write_text(str(-HOUR_S))
        with server.again() as again, client(again) as one:

            after = [one.publish("a", n) for n in range(5, 10)]

            got = messages(one.subscribe("a", {"start": "earliest", "until": "end"}))
            times = [message["time"] for message in got]
            assert [message["offset"] for message in got] == before + after
            assert times == sorted(times)
