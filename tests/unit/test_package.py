"""The package as a whole: what importing it costs, and that its documents can be read."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst")])


def test_importing_the_package_loads_neither_lmdb_nor_zerorpc_nor_the_server():
    program = "import sys, zstreampub; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True,
                            text=True, timeout=60).stdout.split()

    assert "zstreampub" in loaded
    unwanted = {"lmdb", "zerorpc", "click", "rich", "zstreampub.server", "zstreampub.lane", "zstreampub.broker"}
    assert not unwanted & set(loaded)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_is_valid_restructuredtext(document):
    core = pytest.importorskip("docutils.core")
    complaints: list[str] = []

    core.publish_doctree(document.read_text(), source_path=str(document), settings_overrides={
        "report_level": 2, "halt_level": 6, "warning_stream": _Collector(complaints)})

    assert not complaints, "".join(complaints)


class _Collector:
    def __init__(self, lines):
        self.write = lines.append
