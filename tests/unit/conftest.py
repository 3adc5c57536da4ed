"""The command with an imitation of the client; other tests have a ``client`` of their own."""

import sys
from types import ModuleType

import pytest

from tests.unit.fake_client import FakeClient
from zstreampub.cli import main


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    module = ModuleType("zstreampub.client")
    module.Client = fake        # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zstreampub.client", module)
    return fake


@pytest.fixture
def run(client, capfd):
    """Run the command; return its exit code, stdout and stderr."""
    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main.main(list(args))
        return (ended.value.code, *capfd.readouterr())
    return run
