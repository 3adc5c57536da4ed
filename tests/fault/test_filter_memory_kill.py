"""A filter that remembers, before a store: killed at any step, what passes is what would have passed."""

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT


@pytest.mark.parametrize("mark_s", [0, 1000], ids=["left out: written at once", "left out: written later"])
@pytest.mark.parametrize("filters", ["every", "min_period", "both"])
@pytest.mark.parametrize("store", ["fifo", "latest"])
def test_killed_at_each_step_it_stores_and_remembers_what_it_would_have(tmp_path, store, filters, mark_s):
    done = subprocess.run([sys.executable, "-m", "tests.crashing_process", tmp_path, store, filters, str(mark_s)],
                          cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 50, "each message is judged, and most commits are several steps"
