"""What the README tells a newcomer to type works when it is typed."""

import codeop
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.rst").read_text()
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
ENDPOINT = "tcp://127.0.0.1:4242"


def blocks(language):
    return [re.sub(r"^   ", "", text, flags=re.MULTILINE) for kind, text in BLOCK.findall(README) if kind == language]


def commands():
    """Return the zstreampub commands of the README, without the one that serves."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith("zstreampub ") and " serve " not in line]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """The README's own serve command on a free port."""
    folder = tmp_path_factory.mktemp("readme")
    serve = next(line[2:].strip() for block in blocks("console") for line in block.splitlines() if " serve " in line)
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
    assert len(blocks("python")) >= 4 and len(commands()) >= 2


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_a_python_example_of_the_readme_runs(number, endpoint, tmp_path):
    program = blocks("python")[number].replace(ENDPOINT, endpoint)

    done = run([sys.executable, "-c", program], tmp_path, env={**os.environ, "PYTHONUNBUFFERED": "1"})

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_a_python_example_of_the_readme_can_be_pasted_into_a_prompt(number):
    statement = []
    for line in [*blocks("python")[number].splitlines(), ""]:
        statement.append(line)
        if codeop.compile_command("\n".join(statement), symbol="single") is not None:      # else it goes on
            statement = []
    assert not statement


def test_the_commands_of_the_readme_run(endpoint, tmp_path):
    for command in commands():
        done = run(in_environment(command), tmp_path, shell=True, env={**os.environ, "ZSTREAMPUB_ADDRESS": endpoint})

        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert '"id": 7' in done.stdout
