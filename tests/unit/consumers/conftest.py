"""Fixtures: a desk in memory, and one on disk."""

import gevent
import pytest

from tests.unit.consumers.desk import Desk, HandClock
from zstreampub.consumers import Consumers


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


@pytest.fixture
def clock(monkeypatch):
    clock = HandClock()
    monkeypatch.setattr(Consumers, "clock", clock)
    return clock


@pytest.fixture
def desk(clock):
    desk = Desk("memory:", clock)
    yield desk
    desk.broker.store.check()
    desk.broker.close()


@pytest.fixture
def disk(clock, tmp_path):
    """The same, on disk: it can be opened again."""
    desk = Desk(f"lmdb:{tmp_path / 'store'}", clock)
    yield desk
    desk.broker.store.check()
    desk.broker.close()
