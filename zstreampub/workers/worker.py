"""One worker: what the process does that the writer starts.

It serves what :class:`WorkerService` has until SIGTERM, which drains, or until the writer ends, however that may be:
then it tells its subscribers that they are to resume, and ends as well. Ctrl-C is the writer's.
"""

import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

import gevent

from ..errors import StoreClosed, ZStreamPubError
from ..logs import configure_logging
from ..server import Server, tune_process
from ..settings import Settings
from ..sockets import bind_all
from ..stores.followed import FollowedStore
from .broker import WorkerBroker
from .service import WorkerService

_REPORT_S = 0.1         # the writer is told so often how much there is to do, if that has changed
_GOODBYE_S = 0.5        # for telling the subscribers that the writer has ended
FAILED = 1

logger = logging.getLogger(__name__)


def main(options):
    """Run the worker that *options* describe, see :meth:`Worker._start`; exit with FAILED if that cannot be done."""
    configure_logging(options["log_level"], f"worker {options['number']}")
    try:
        run(options)
    except ZStreamPubError as error:
        logger.error("%s", error)
        sys.exit(FAILED)


def run(options):
    """Serve until it is time to end. Raises BindError, StoreError."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_process()
    line = socket.socket(fileno=options["line"])
    settings = Settings(**options["settings"])
    with WorkerBroker(FollowedStore(options["directory"], settings, line), settings, options["writer"]) as broker:
        server = Server(WorkerService(broker))
        try:
            bind_all(server, options["bind"])
            gevent.signal_handler(signal.SIGTERM, server.stop)
            tasks = [gevent.spawn(_report, line, server, broker),
                     gevent.spawn(_watch_parent, options["parent"], broker)]
            try:
                server.run()
                server.drain()
            except StoreClosed:     # the writer is no more
                server.drain(_GOODBYE_S)
                raise
            finally:
                gevent.killall(tasks)
        finally:
            server.close()


def _report(line, server, broker):
    """Tell the writer where this worker can be reached, and whenever there are more or fewer subscriptions."""
    told = None
    while True:
        now = {"endpoints": server.endpoints, "subscriptions": len(broker.subscriptions), "opened": broker.opened}
        if now != told:
            with suppress(OSError):     # it is busy: another time; or gone, which is seen elsewhere
                line.send(json.dumps(now).encode() + b"\n", socket.MSG_DONTWAIT)
                told = now
        gevent.sleep(_REPORT_S)


def _watch_parent(parent, broker):
    """End with the writer also where somebody else holds its end of the line open: a child that it has forked."""
    while os.getppid() == parent:
        gevent.sleep(1.0)
    broker.on_failed(StoreClosed("The process that writes the log has ended."))
