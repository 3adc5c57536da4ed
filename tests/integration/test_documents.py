"""What the README and the documents in docs/ tell people to type works when it is typed.

A Python example is a program of its own; the server that it may need is the README's.
"""

import codeop
import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.commands import Command

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.rst", *sorted(ROOT.glob("docs/*.rst"))]
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
ENDPOINT = "tcp://127.0.0.1:4242"
PRINTED = {"filters.rst"}       # whose examples say in a comment what they print
ENDLESS = {"clients.rst"}       # loops of stock clients that never end; tests/integration/test_stock_*.py has them


def blocks(document, language):
    return [re.sub(r"^   ", "", text, flags=re.MULTILINE)
            for kind, text in BLOCK.findall(document.read_text()) if kind == language]


def examples(documents):
    """Return a test's parameters: each Python example, and its document."""
    return [pytest.param(document, block, id=f"{document.stem}-{number}") for document in documents
            if document.name not in ENDLESS for number, block in enumerate(blocks(document, "python"))]


def commands():
    """Return the zstreampub commands of the README, without the one that serves."""
    lines = [line[2:] for block in blocks(DOCUMENTS[0], "console") for line in block.splitlines()
             if line.startswith("$ ")]
    return [line for line in lines if line.startswith("zstreampub ") and " serve " not in line]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """The README's own serve command on a free port."""
    folder = tmp_path_factory.mktemp("readme")
    serve = next(line[2:].strip() for block in blocks(DOCUMENTS[0], "console") for line in block.splitlines()
                 if " serve " in line)
    server = subprocess.Popen(in_environment(serve.replace(ENDPOINT, "tcp://127.0.0.1:*")), shell=True, cwd=folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in server.stdout:
        found = re.search(r"on (tcp://127\.0\.0\.1:\d+)", line)
        if found:
            break
    yield found[1]
    server.terminate()
    assert server.wait(20) == 0


def in_environment(command):
    """Return *command* so that the shell finds the scripts of this Python."""
    return f"PATH={Path(sys.executable).parent}:$PATH exec {command}"


def run(command, folder, **options):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, **options)


def test_the_readme_has_examples_for_each_of_the_three_uses():
    assert len(blocks(DOCUMENTS[0], "python")) >= 4 and len(commands()) >= 2


# First of all: it works on everything that is in the log.
def test_the_commands_of_the_readme_run(endpoint, tmp_path):
    for command in commands():
        done = run(in_environment(command), tmp_path, shell=True, env={**os.environ, "ZSTREAMPUB_ADDRESS": endpoint})

        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert '"id": 7' in done.stdout


@pytest.mark.parametrize("document, block", examples(DOCUMENTS))
def test_a_python_example_runs(document, block, endpoint, tmp_path):
    done = run([sys.executable, "-W", "error", "-c", block.replace(ENDPOINT, endpoint)], tmp_path,
               env={**os.environ, "PYTHONUNBUFFERED": "1"})

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if document.name in PRINTED:
        assert done.stdout.strip() == re.search(r"print\(.*\)\s+# (.*)", block)[1]


@pytest.mark.parametrize("document, block", examples(DOCUMENTS[:1]))
def test_a_python_example_of_the_readme_can_be_pasted_into_a_prompt(document, block):
    statement = []
    for line in [*block.splitlines(), ""]:
        statement.append(line)
        if codeop.compile_command("\n".join(statement), symbol="single") is not None:      # else it goes on
            statement = []
    assert not statement


def test_the_bridges_of_the_documents_start(endpoint, tmp_path):
    commands = [line.removeprefix("$ zstreampub ") for block in blocks(ROOT / "docs" / "receiving.rst", "console")
                for line in block.splitlines()
                if line.startswith("$ zstreampub bridge")]
    assert len(commands) == 4

    with ExitStack() as stack:
        bridges = []
        for at, line in enumerate(commands):
            line = re.sub(r"@tcp://\*:\d+", f"@bind:ipc://{tmp_path}/{at}", line)
            line = line.replace("/var/lib/zstreampub-bridge", f"{tmp_path}/spool")
            bridges.append(stack.enter_context(Command(*shlex.split(line), address=endpoint, cwd=tmp_path)))
        for bridge in bridges:
            bridge.line("err", "ctrl-C ends")
            bridge.signal()
        assert [bridge.wait() for bridge in bridges] == [130] * 4
