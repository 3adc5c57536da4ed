"""zstreampub: durable publish-subscribe for zerorpc services, on gevent and LMDB.

``Broker`` is the log with its subscriptions, in any gevent program. ``Service`` and ``Server``
put it on the wire for every zerorpc client; ``Client`` is ours. ``AckQueue`` and ``Table`` are a work
queue and a mapping, in a directory or at a server; ``FifoStore`` and ``LatestStore`` keep what was received;
``Receiver`` and ``ThreadedReceiver`` hand it to callbacks or into them, ``Messenger`` sends and subscribes.
Importing this loads none of them: each is loaded when it is first used.
"""

from importlib import import_module

from .errors import GapError, ZStreamPubError
from .message import Batch, Message
from .payload import Undecodable
from .version import __version__

_HOMES = {
    "AckQueue": "facade.ackqueue",
    "Broker": "broker",
    "Chain": "filters.chain",
    "Client": "client",
    "Empty": "views.workqueue",
    "FifoStore": "spool.fifo",
    "Full": "views.workqueue",
    "Gap": "store",
    "LatestStore": "spool.latest",
    "Messenger": "receive",
    "Policy": "policy",
    "Receiver": "receive",
    "Retention": "settings",
    "Server": "server",
    "Service": "service",
    "Settings": "settings",
    "Source": "receive",
    "Table": "facade.ackqueue",
    "ThreadedReceiver": "receive",
    "UniqueAckQueue": "facade.ackqueue",
    "Workers": "workers",
    "serve": "serving",
}

__all__ = ["Batch", "GapError", "Message", "Undecodable", "ZStreamPubError", "__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'zstreampub' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return __all__
