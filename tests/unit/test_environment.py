"""What the two commands say on a machine on which they cannot make their environment."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make_venv(folder, python):
    """Run ``make_venv`` in *folder*; return its exit code and what it says."""
    (folder / "setup.cfg").write_text("")
    program = f'. "{ROOT}/deploy/venv.sh"; make_venv tests test'
    env = {"PYTHON": str(python), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", program, "tests/run"], cwd=folder, env=env,
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def imitation(folder, script):
    """Return a Python that does what *script* says."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_python_it_says_what_to_install(tmp_path):
    code, said = make_venv(tmp_path, tmp_path / "nowhere")

    assert code == 1 and "apt-get install python3 python3-venv" in said


def test_an_old_python_is_refused_with_its_version(tmp_path):
    python = imitation(tmp_path, 'case "$2" in *platform*) echo 3.9.2;; *) exit 1;; esac')

    code, said = make_venv(tmp_path, python)

    assert code == 1 and "is Python 3.9.2; zstreampub needs 3.10" in said


def test_a_python_without_venv_is_told_with_the_package_that_has_it(tmp_path):
    python = imitation(tmp_path, 'case "$2" in *platform*) echo 3.12.3;; *ensurepip*) exit 1;; esac')

    code, said = make_venv(tmp_path, python)

    assert code == 1 and "apt-get install python3-venv (or python3.12-venv)" in said


def test_where_the_packages_cannot_be_installed_it_shows_why(tmp_path):
    inner = '"$3/bin/python"'
    venv = f'mkdir -p "$3/bin"; printf "#!/bin/sh\\necho no such index; exit 1" > {inner}; chmod +x {inner}'
    python = imitation(tmp_path, f'case "$2" in *platform*) echo 3.12.3;; venv) {venv};; esac')

    code, said = make_venv(tmp_path, python)

    assert code == 1 and "no such index" in said and "way to a package registry" in said
    assert not list(tmp_path.glob(".cache/*/ready"))


@pytest.mark.parametrize("script", ["tests/run", ".ci/run", "deploy/quickstart", "deploy/venv.sh"])
def test_a_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", ROOT / script], check=True)
