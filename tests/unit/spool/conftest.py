"""A place for a store, and ways to open it that are closed at the end of the test."""

import pytest

from zstreampub import FifoStore, LatestStore


@pytest.fixture
def place(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def open_fifo(place):
    """Open the FifoStore in *place*: ``open_fifo(**options)``."""
    opened = []

    def open_fifo(**options):
        opened.append(FifoStore(place, **options))
        return opened[-1]

    yield open_fifo
    for one in opened:
        one.close()


@pytest.fixture
def fifo(open_fifo):
    return open_fifo()


@pytest.fixture
def open_latest(place):
    """Open the LatestStore in *place*: ``open_latest(**options)``."""
    opened = []

    def open_latest(**options):
        opened.append(LatestStore(place, **options))
        return opened[-1]

    yield open_latest
    for one in opened:
        one.close()
