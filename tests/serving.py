"""The server process of a test: ``python -m tests.serving OPTIONS`` with OPTIONS as JSON.

It is ``zstreampub.serving.serve`` with two additions: a ``census`` of what lives in the
process, and, where asked for, a clock that the test can set. Says its endpoint when ready.
"""

import gc
import importlib
import json
import logging
import sys
import time

import gevent

from zstreampub import serving as served
from zstreampub.service import Service
from zstreampub.settings import Retention, Settings


class Watched(Service):
    """The service, and a way to look for leaks."""

    def census(self):
        """Count what should not grow."""
        gc.collect()
        counters = self._broker.stats()["server"]
        alive = sum(isinstance(one, gevent.Greenlet) and not one.dead for one in gc.get_objects())
        return {"greenlets": alive, "channels": counters["channels"], "peers": counters["peers"],
                "subscriptions": len(self._broker.subscriptions), "stuck_peers": counters["stuck_peers"]}


def main():
    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options["clock"]:
        _set_clock(options["clock"])
    setattr(served, "Service", _find(options["service"]) if options["service"] else Watched)    # noqa: B010
    settings = dict(options["settings"])
    if "retention" in settings:
        settings["retention"] = tuple(Retention(**rule) for rule in settings["retention"])
    served.serve([options["bind"]], options["store"], Settings(**settings), _ready,
                 options["workers"], ["tcp://127.0.0.1:0"] * options["workers"])


def _ready(server, broker):
    endpoint = server.endpoints[-1]
    print(json.dumps({"endpoint": endpoint, "epoch": broker.epoch}), flush=True)


def _set_clock(path):
    """Let the wall clock of this process be wrong by the seconds that stand in the file at *path*."""
    right = time.time_ns

    def wrong():
        with open(path) as file:
            return right() + int(file.read() or 0) * 1_000_000_000

    time.time_ns = wrong
    time.time = lambda: wrong() / 1e9


def _find(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    main()
