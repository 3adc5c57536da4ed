"""kill -9 while messages come due: each comes once, and none is lost."""

import random

import gevent
import pytest

from tests.processes import ServerProcess, client, messages, wait_until
from zstreampub import Client


def _comes_once(folder, rounds):
    chance = random.Random(rounds)
    server = ServerProcess(folder, heartbeat_s=0.3)
    expected, cancelled = set(), set()
    try:
        with Client(server.endpoint, heartbeat_s=0.3) as ours:
            for number in range(rounds):
                ids = {(number, at): ours.publish("later", [number, at], delay_s=chance.random() * 0.6)
                       for at in range(40)}
                far = [ours.publish("later", ["never", number, at], delay_s=300) for at in range(3)]
                cancelled.update(one for one, id in ids.items() if one[1] % 10 == 0 and ours.cancel(id))
                assert all(ours.cancel(id) for id in far)
                expected |= ids.keys()
                gevent.sleep(chance.random() * 0.4)     # the moment of the kill is to be any
                server.kill()
                server = server.again()
            wait_until(lambda: not ours.scheduled(), "the end of what waits")
            with client(server) as stock:
                log = [tuple(message["payload"]) for message in messages(
                    stock.subscribe("later", {"start": "earliest", "until": "end"}))]
        assert len(log) == len(set(log)), "each comes once"
        assert set(log) == expected - cancelled, "none is lost, and what was taken back does not come"
        return len(log), len(cancelled)
    finally:
        server.kill()


def test_each_delayed_message_comes_once_although_the_server_is_killed(tmp_path):
    _comes_once(tmp_path, rounds=4)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_each_delayed_message_comes_once_over_fifty_kills(tmp_path):
    came, cancelled = _comes_once(tmp_path, rounds=50)
    print(f"{came} came, {cancelled} were taken back")
