"""An outbox on disk: how it is opened, and what somebody has left in it."""

import os
from contextlib import nullcontext
from time import time
from typing import NamedTuple

from ...errors import StoreError, StoreVersion
from ...spool.fifo import FifoStore
from .records import ADDED, SENT, Record, Refused, Sent

REFUSED = "refused"     # the directory in it, a FifoStore as well


class Left(NamedTuple):
    """What is in an outbox; *refused* is a list of Refused."""

    messages: int
    size_bytes: int
    age_s: float
    refused: list


def check_there(path):
    """Raise StoreError unless there is an outbox, or another store, in *path*."""
    if not os.path.exists(os.path.join(path, "data.mdb")):
        raise StoreError(f"There is no outbox in {path}. A client with outbox={path!r} would make one.", path=path)


def look(path):
    """Return the :class:`Left` of the outbox in *path*, which nobody has open. Raises StoreError if none is there."""
    check_there(path)
    store, sent = open_store(path)
    refused_path = os.path.join(path, REFUSED)
    with store, FifoStore(refused_path) if os.path.isdir(refused_path) else nullcontext(()) as refused:
        messages = store.mark(ADDED) - sent.messages if len(store) else 0
        return Left(messages, store.size_bytes, age_s(store), list(map(Refused, refused)))


def open_store(path):
    """Return ``(store, sent)``: the FifoStore in *path*, and its mark. Raises StoreVersion if it is no outbox's."""
    store = FifoStore(path)
    try:
        mark = store.mark(SENT)
        if len(store) and store.mark(ADDED) is None:
            raise StoreVersion(f"{store.path} holds a FifoStore that is no outbox. Name another directory.",
                               path=store.path)
        return store, Sent.of(mark)
    except BaseException:
        store.close()
        raise


def age_s(store):
    """Return how long ago the oldest message was published, in seconds of the time of day; 0.0 if there is none."""
    for item in store:
        return max(time() - Record(item).time_us / 1e6, 0.0)
    return 0.0
