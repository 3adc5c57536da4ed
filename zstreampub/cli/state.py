"""The file of ``zstreampub subscribe --state``: where to resume, of which log.

Rules: an offset is kept when everything below it was written to stdout, never before; the
file is replaced whole, so whoever reads it finds an old state or a new one, never half of
one. It is not synced: after a power failure a state that is newer than the output would lose messages.
"""

import json
import os
import time
from contextlib import contextmanager, suppress

import click

from ..errors import EpochMismatch, OffsetOutOfRange

PERIOD_S = 0.5


class State:
    """Keeps ``offset`` and ``epoch`` in the file at *path*; both None where there is no file yet.

    Raises UsageError for a file that this class did not write.
    """

    def __init__(self, path):
        self.path = os.path.realpath(path)
        self.offset, self.epoch = _read(path)
        self._kept = self.offset
        self._kept_at = -PERIOD_S

    def reach(self, offset):
        """Take note that nothing below *offset* is needed any more; write it down if the last time is long ago."""
        if type(offset) is int and (self.offset is None or offset > self.offset):
            self.offset = offset
            if time.monotonic() - self._kept_at >= PERIOD_S:
                self.keep()

    def see(self, control):
        """Take note of what a control of the stream says of where to resume."""
        kind = control.get("control")
        if kind == "subscribed" and self.epoch is None:
            self.epoch = control["epoch"]
            self.reach(control["offset"])
        elif kind == "keepalive":
            self.reach(control.get("offset"))
        elif kind == "end":
            self.reach(control.get("resume"))

    def keep(self):
        """Write the file, if there is anything new."""
        if self.offset == self._kept:
            return
        new = f"{self.path}.new"
        with open(new, "w", encoding="utf-8") as file:
            file.write(json.dumps({"offset": self.offset, "epoch": self.epoch}) + "\n")
        os.replace(new, self.path)
        self._kept, self._kept_at = self.offset, time.monotonic()

    @contextmanager
    def kept(self):
        """Write the file twice a second and, whatever happens, at the end."""
        import gevent

        keeper = gevent.spawn(self._keep_on, gevent.getcurrent())
        try:
            yield
        except (EpochMismatch, OffsetOutOfRange) as error:
            raise type(error)(f"{error} {self.path} has offset {self.offset} of epoch {self.epoch}; "
                              "remove it to begin at --start.") from error
        finally:
            keeper.kill()
            self.keep()

    def _keep_on(self, reader):
        import gevent

        while True:
            gevent.sleep(PERIOD_S)
            try:
                self.keep()
            except OSError as error:
                gevent.kill(reader, error)      # it is the reader's run that cannot go on
                return


class NoState:
    """Stands for :class:`State` where nothing is to be kept."""

    offset = epoch = None

    def reach(self, offset):
        pass

    def see(self, control):
        pass

    @contextmanager
    def kept(self):
        yield


def _read(path):
    content = None
    try:
        with open(path, encoding="utf-8") as file, suppress(ValueError):
            content = json.load(file)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}.") from error
    offset, epoch = (content.get("offset"), content.get("epoch")) if isinstance(content, dict) else (None, None)
    if type(offset) is not int or offset < 0 or not isinstance(epoch, str):
        raise click.UsageError(f"{path} is no state of 'zstreampub subscribe': remove it to begin at --start.")
    return offset, epoch
