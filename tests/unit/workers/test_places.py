"""Where workers listen, and where clients find them."""

import pytest

from zstreampub.client.elsewhere import seen_from
from zstreampub.errors import InvalidOption
from zstreampub.workers.places import beside


@pytest.mark.parametrize("endpoint, number, place", [
    ("tcp://127.0.0.1:4242", 1, "tcp://127.0.0.1:4243"),
    ("tcp://*:4242", 3, "tcp://*:4245"),
    ("tcp://[::1]:65534", 1, "tcp://[::1]:65535"),
    ("tcp://127.0.0.1:0", 2, "tcp://127.0.0.1:0"),
    ("tcp://127.0.0.1:*", 2, "tcp://127.0.0.1:*"),
    ("ipc:///run/log.sock", 2, "ipc:///run/log.sock.2"),
])
def test_a_worker_listens_beside_the_writer(endpoint, number, place):
    assert beside(endpoint, number) == place


def test_beyond_the_last_port_the_operator_has_to_name_one():
    with pytest.raises(InvalidOption, match="worker 2"):
        beside("tcp://127.0.0.1:65534", 2)


@pytest.mark.parametrize("address, endpoints, place", [
    ("tcp://log.example:4242", {"tcp://0.0.0.0:4242": "tcp://0.0.0.0:4243"}, "tcp://log.example:4243"),
    ("tcp://localhost:4242", {"tcp://127.0.0.1:4242": "tcp://127.0.0.1:4243"}, "tcp://localhost:4243"),
    ("tcp://log:4242", {"tcp://10.0.0.1:4242": "tcp://10.0.0.2:4243"}, "tcp://10.0.0.2:4243"),
    ("tcp://[::1]:4242", {"tcp://[::]:4242": "tcp://[::]:4243"}, "tcp://[::1]:4243"),
    ("tcp://a:2", {"tcp://x:1": "tcp://x:3", "tcp://y:2": "tcp://y:4"}, "tcp://a:4"),
    ("tcp://a:7", {"tcp://x:1": "tcp://x:3", "ipc:///run/s": "ipc:///run/s.1"}, "tcp://a:3"),
    ("ipc:///run/s", {"tcp://x:1": "tcp://x:3", "ipc:///run/s": "ipc:///run/s.1"}, "ipc:///run/s.1"),
    ("ipc:///run/s", {"tcp://x:1": "tcp://x:3"}, None),
    ("tcp://a:1", {}, None),
])
def test_a_client_finds_a_worker_by_the_way_that_it_has_found_the_writer(address, endpoints, place):
    assert seen_from(address, endpoints) == place
