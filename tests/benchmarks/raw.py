"""The limits: LMDB by itself, and pyzmq by itself, each doing as little as can be with the same bytes."""

from time import perf_counter

import lmdb
import msgpack
import zmq

from .actors import percentiles
from .payloads import BATCH, CYCLE, WRAP, Sink, cycle, payload


def append_batches(link, folder, messages):
    """Append one record for each message, 1,000 in a transaction, one fsync each."""
    payloads = cycle(0)
    environment = lmdb.open(folder, map_size=4 << 30)
    link.ready()
    link.go()
    began = perf_counter()
    for at in range(0, messages, BATCH):
        start = at % WRAP
        with environment.begin(write=True) as transaction:
            records = enumerate(payloads[start:start + BATCH], at)
            transaction.cursor().putmulti([(key.to_bytes(8, "big"), one) for key, one in records], append=True)
    ended = perf_counter()
    with environment.begin() as transaction:
        if transaction.stat()["entries"] != messages:
            raise RuntimeError("LMDB lost a record")
    return {"began": began, "ended": ended}


def append_singles(link, folder, messages):
    """Append one record in each transaction, one fsync each."""
    environment = lmdb.open(folder, map_size=4 << 30)
    latencies = []
    link.ready()
    link.go()
    began = perf_counter()
    for at in range(messages):
        start = perf_counter()
        with environment.begin(write=True) as transaction:
            transaction.put(at.to_bytes(8, "big"), payload(0, 0, at), append=True)
        latencies.append(perf_counter() - start)
    return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies)}


def echo(link, endpoint):
    """A ROUTER that answers every message with 8 bytes."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set_hwm(0)
        router.bind(endpoint)
        link.ready()
        while True:
            peer, _ = router.recv_multipart()
            router.send_multipart([peer, b"answered"])


def call_batches(link, endpoint, source, batches, in_flight=8):
    """Send batches of 1,000 as one frame each, *in_flight* at a time."""
    payloads = cycle(source)
    pack = msgpack.Packer().pack
    return _call(link, endpoint, batches, in_flight,
                 lambda turn: pack(payloads[turn % CYCLE * BATCH:(turn % CYCLE + 1) * BATCH]))


def call_singles(link, endpoint, source, callers, messages):
    """Send single messages, *callers* at a time."""
    return _call(link, endpoint, messages, callers, lambda turn: payload(source, 0, turn))


def _call(link, endpoint, count, in_flight, make):
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set_hwm(0)
        dealer.connect(endpoint)
        link.ready()
        link.go()
        began, sent, latencies = perf_counter(), [], []
        for turn in range(count):
            if turn >= in_flight:
                dealer.recv()
                latencies.append(perf_counter() - sent[turn - in_flight])
            sent.append(perf_counter())
            dealer.send(make(turn))
        for _ in range(min(in_flight, count)):
            dealer.recv()
        return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies or [0.0])}


def stream_batches(link, endpoint, subscribers, batches):
    """A ROUTER that packs each batch once and sends it to all subscribers."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set_hwm(0)
        router.bind(endpoint)
        link.ready()
        peers = [router.recv_multipart()[0] for _ in range(subscribers)]
        payloads = cycle(0)
        pack = msgpack.Packer().pack
        for turn in range(batches):
            at = turn % CYCLE * BATCH
            packed = pack(payloads[at:at + BATCH])
            for peer in peers:
                router.send_multipart([peer, packed], copy=False)
        link.go()       # stay until the subscribers have everything


def read_stream(link, endpoint, messages):
    """Subscribe to a :func:`stream_batches`, decode and check every batch."""
    sink = Sink([0])
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set_hwm(0)
        dealer.connect(endpoint)
        link.ready()
        link.go()
        dealer.send(b"subscribe")
        began = None
        while sink.messages < messages:
            packed = dealer.recv()
            began = began or perf_counter()
            sink.take_run(sink.messages, msgpack.unpackb(packed))
        return {"began": began, "ended": perf_counter()}
