"""A client and the scripted server that it talks to."""

import pytest

from tests.unit.client.fake_server import DEADLINE_S, FakeServer
from zstreampub.client import Client


@pytest.fixture
def server():
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        yield client
