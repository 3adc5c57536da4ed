"""``serve``: a store, its broker and its server in one call, with as many processes as are wanted."""

import signal

import gevent

from .broker import Broker
from .server import Server, tune_process
from .service import Service
from .sockets import bind_all
from .workers import Workers


def serve(bind, store_url, settings=None, ready=None, workers=0, worker_bind=()):
    """Open the store, serve it on *bind* (a list of endpoints) until SIGTERM or SIGINT, drain, close.

    *workers* is how many further processes take over subscriptions, see :class:`Workers`; *worker_bind* says where they
    listen, one endpoint for each (none: beside *bind*).
    ``ready(server, broker)`` is called once, when clients can connect. Raises StoreError and
    its kin if the store cannot be opened or dies. The process is tuned, see server.py.
    """
    tune_process()
    with Broker.open(store_url, settings) as broker:
        server = Server(Service(broker))
        others = Workers(broker, workers, bind, worker_bind)
        try:
            bind_all(server, bind)
            for number in (signal.SIGTERM, signal.SIGINT):
                gevent.signal_handler(number, server.stop)
            others.start(server.endpoints)
            if ready is not None:
                ready(server, broker)
            server.run()
            others.stop()
            server.drain()
        finally:
            server.close()
            others.close()
