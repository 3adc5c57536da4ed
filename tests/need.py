"""What a test does about a service or tool that is not there: skip on a laptop, fail in CI."""

import os
import shutil

import pytest


def need(found, reason):
    """Skip the calling test with *reason* unless *found*; fail it where CI is set."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI must have what every test needs: {reason}")
    pytest.skip(reason)


def need_command(name):
    """Return the path of command *name*, or skip (fail in CI)."""
    path = shutil.which(name)
    need(path, f"there is no command {name!r}")
    return path
