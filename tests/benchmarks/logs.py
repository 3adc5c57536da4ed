"""Makes large logs, for the workloads that ask what a server does with much that is stored."""

from time import perf_counter

from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.stores import open_store

from .payloads import BATCH, BYTES
from .stage import Caller

_CALL_BATCHES = 50
_CALLS = 4          # in flight
_PAYLOAD = b"\xc4" + bytes((BYTES,)) + bytes(BYTES)     # packed as msgpack has it


def topic_name(number):
    return f"log.{number}"


def fill(link, endpoint, messages, topics=1, length=BATCH):
    """Append *messages* in batches of *length*, to each of *topics* in turn."""
    packed = [Batch.assemble(topic_name(number), [_PAYLOAD] * length, {}).packed for number in range(topics)]
    link.ready()
    link.go()
    began, at = perf_counter(), 0
    with Caller(endpoint) as caller:
        while at < messages // length:
            more = min(_CALL_BATCHES if length >= BATCH else 1000, messages // length - at)
            caller.post("append", [[packed[number % topics] for number in range(at, at + more)]])
            at += more
            caller.wait(_CALLS)
        caller.wait(0)
    return {"began": began, "ended": perf_counter()}


def open_alone(link, folder, messages):
    """Open the store in *folder*, nothing else; says ``open_s``, how long that took."""
    settings = Settings()
    began = perf_counter()
    store = open_store(f"lmdb:{folder}", settings)
    open_s = perf_counter() - began
    if store.bounds()[1] < messages:
        raise RuntimeError("the store has lost messages")
    store.close()
    link.ready(open_s=open_s)
    return {}
