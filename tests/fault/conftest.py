"""The library that records what a process writes."""

import pytest

from tests.recorded_writes import build_recorder


@pytest.fixture(scope="session")
def recorder(tmp_path_factory):
    return build_recorder(tmp_path_factory.mktemp("recorder"))
