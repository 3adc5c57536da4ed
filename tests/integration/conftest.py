"""The server that the tests of a file share."""

import pytest

from tests.processes import ServerProcess


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    """A server of its own for each file, with the settings that it has as SETTINGS. Some files have another kind."""
    with ServerProcess(tmp_path_factory.mktemp("server"), **getattr(request.module, "SETTINGS", {})) as server:
        yield server
