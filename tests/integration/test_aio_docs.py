"""What docs/asyncio.rst tells its reader to type works when it is typed."""

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT, ServerProcess

TEXT = (ROOT / "docs" / "asyncio.rst").read_text()
BLOCKS = [re.sub(r"^   ", "", text, flags=re.MULTILINE)
          for text in re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", TEXT, re.MULTILINE)]
LAST_LINES = ["<Message 2 orders.us {'id': 3}> ", "label for {'id': 2} delivery 1", "given up: [{'ulr': 'b.png'}]"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("docs")) as server:
        yield server


def test_each_example_has_a_line_that_is_expected_of_it():
    assert len(BLOCKS) == len(LAST_LINES)


@pytest.mark.parametrize("number", range(len(LAST_LINES)))
def test_an_example_of_the_text_runs(number, server, tmp_path):
    program = BLOCKS[number].replace("tcp://127.0.0.1:4242", server.endpoint)

    done = subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(LAST_LINES[number])
