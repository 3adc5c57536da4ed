"""What docs/receiving.rst shows works when it is typed."""

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.commands import Command, Serve

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "receiving.rst").read_text()
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
ADDRESS = "tcp://127.0.0.1:4242"


def blocks(language):
    return [re.sub(r"^   ", "", text, flags=re.MULTILINE) for kind, text in BLOCK.findall(DOCUMENT) if kind == language]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Serve("--store", f"lmdb:{tmp_path_factory.mktemp('log')}") as server:
        yield server


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_a_python_example_runs(number, server, tmp_path):
    program = blocks("python")[number].replace(ADDRESS, server.address)
    program = program.replace("Client()", f"Client({server.address!r})")

    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_bridges_start(server, tmp_path):
    commands = [line.removeprefix("$ zstreampub ") for block in blocks("console") for line in block.splitlines()
                if line.startswith("$ zstreampub bridge")]
    assert len(commands) == 4

    with ExitStack() as stack:
        bridges = []
        for at, line in enumerate(commands):
            line = re.sub(r"@tcp://\*:\d+", f"@bind:ipc://{tmp_path}/{at}", line)
            line = line.replace("/var/lib/zstreampub-bridge", f"{tmp_path}/spool")
            bridges.append(stack.enter_context(Command(*shlex.split(line), address=server.address, cwd=tmp_path)))
        for bridge in bridges:
            bridge.line("err", "ctrl-C ends")
            bridge.signal()
        assert [bridge.wait() for bridge in bridges] == [130] * 4
