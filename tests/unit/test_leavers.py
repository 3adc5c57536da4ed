"""Who has left is found out at once among those who matter, and the search leaves the others their turn."""

import gevent
import pytest
from gevent.event import Event

from zstreampub import leavers as leavers_module
from zstreampub.channels import Peer
from zstreampub.leavers import Leavers


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


class Asked:
    """A channel that notes when it is asked for a sign of life."""

    def __init__(self, peers, number, gone=False):
        self.peer = Peer(b"%d" % number, None)
        self.peer.members.add(self)
        self.peers, self.gone, self.beats, self.asked = peers, gone, 0, Event()
        peers[self.peer.id] = self.peer

    def beat(self):
        self.beats += 1
        if self.gone:       # the lane frees it while it is being looked at
            self.peer.members.clear()
            del self.peers[self.peer.id]
        self.asked.set()


@pytest.fixture
def peers():
    return {}


@pytest.fixture
def leavers(peers):
    one = Leavers(peers)
    task = gevent.spawn(one.run)
    yield one
    assert not task.dead
    task.kill()


def test_each_peer_with_members_is_asked_once_for_each_time_that_somebody_left(leavers, peers):
    channels = [Asked(peers, number) for number in range(10)]

    for times in (1, 2):
        leavers.somebody_left()
        for channel in channels:
            channel.asked.wait()
            channel.asked.clear()
        assert [channel.beats for channel in channels] == [times] * 10


def test_those_who_are_gone_do_not_disturb_the_search(leavers, peers):
    channels = [Asked(peers, number, gone=number % 2) for number in range(10)]

    leavers.somebody_left()
    channels[-1].asked.wait()

    assert [channel.beats for channel in channels] == [1] * 10
    assert len(peers) == 5


def test_peers_without_members_and_those_that_cannot_take_more_are_left_alone(leavers, peers):
    reader, full, member = Asked(peers, 1), Asked(peers, 2), Asked(peers, 3)
    reader.peer.members.clear()
    full.peer.unsent.append(b"what waits shows by itself that it is gone")

    leavers.somebody_left()
    member.asked.wait()

    assert (reader.beats, full.beats, member.beats) == (0, 0, 1)


def test_a_long_search_gives_others_their_turn(monkeypatch, leavers, peers):
    monkeypatch.setattr(leavers_module, "_TURN_S", 0)
    monkeypatch.setattr(leavers_module, "_PAUSE_S", 0)
    first, *_, last = [Asked(peers, number) for number in range(10)]

    leavers.somebody_left()
    first.asked.wait()

    assert last.beats == 0
    last.asked.wait()
