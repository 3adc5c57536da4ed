"""The limits: LMDB, a plain file and pyzmq by themselves, each doing as little as can be with the same bytes."""

import os
from itertools import islice
from time import perf_counter

import lmdb
import msgpack
import zmq

from .actors import percentiles
from .payloads import BATCH, BYTES, Runs, batch_of, cycle, finished, payload
from .stage import free_endpoint


def append_batches(link, folder, messages, size=BYTES):
    """Append one record for each message, 1,000 in a transaction, one fsync each."""
    environment = lmdb.open(folder, map_size=4 << 30)
    cycle(0, size)

    def append(at):
        _put_batch(environment, at, size)

    return {**_timed_steps(link, append, range(0, messages, BATCH)), **_checked(environment, messages)}


def append_singles(link, folder, messages):
    """Append one record in each transaction, one fsync each."""
    environment = lmdb.open(folder, map_size=4 << 30)

    def append(at):
        with environment.begin(write=True) as transaction:
            transaction.put(at.to_bytes(8, "big"), payload(0, 0, at), append=True)

    return {**_timed_steps(link, append, range(messages)), **_checked(environment, messages)}


def _put_batch(environment, at, size=BYTES):
    with environment.begin(write=True) as transaction:
        records = enumerate(batch_of(0, at // BATCH, size), at)
        transaction.cursor().putmulti([(key.to_bytes(8, "big"), one) for key, one in records], append=True)


def _checked(environment, messages):
    if environment.stat()["entries"] != messages:
        raise RuntimeError("LMDB lost a record")
    return {}


def read_cursor(link, folder, messages):
    """Read *messages* records with a cursor, and check every one; they are put there before the clock starts."""
    environment = lmdb.open(folder, map_size=4 << 30)
    for at in range(0, messages, BATCH):
        _put_batch(environment, at)
    sink = Runs()
    link.ready()
    link.go()
    began = perf_counter()
    with environment.begin() as transaction:
        values = transaction.cursor().iternext(keys=False, values=True)
        while payloads := list(islice(values, BATCH)):
            sink.take(payloads)
    return finished([sink], began, messages)


def write_singles(link, folder, messages):
    """Write and fdatasync each message."""
    return _write(link, folder, lambda at: payload(0, 0, at), range(messages))


def write_batches(link, folder, messages, size=BYTES):
    """Write 1,000 messages at once, joined, and fdatasync them."""
    cycle(0, size)
    return _write(link, folder, lambda at: b"".join(batch_of(0, at // BATCH, size)), range(0, messages, BATCH))


def _write(link, folder, make, steps):
    with open(f"{folder}/plain", "wb", buffering=0) as file:
        def write(at):
            file.write(make(at))
            os.fdatasync(file.fileno())
        return _timed_steps(link, write, steps)


def _timed_steps(link, step, steps):
    latencies = []
    link.ready()
    link.go()
    began = perf_counter()
    for at in steps:
        start = perf_counter()
        step(at)
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


def call_batches(link, endpoint, source, batches, size=BYTES, in_flight=8):
    """Send batches of 1,000 as one frame each, *in_flight* at a time."""
    cycle(source, size)
    pack = msgpack.Packer().pack
    return _call(link, endpoint, batches, in_flight, lambda turn: pack(batch_of(source, turn, size)))


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


def start_echo(stage):
    """Start an :func:`echo`; return its endpoint."""
    endpoint = free_endpoint()
    stage.start_server(echo, endpoint)
    return endpoint


def stream_batches(link, endpoint, subscribers, batches, size=BYTES):
    """A ROUTER that packs each batch once and sends it to all subscribers."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set_hwm(0)
        router.bind(endpoint)
        cycle(0, size)
        link.ready()
        peers = [router.recv_multipart()[0] for _ in range(subscribers)]
        pack = msgpack.Packer().pack
        for turn in range(batches):
            packed = pack(batch_of(0, turn, size))
            for peer in peers:
                router.send_multipart([peer, packed], copy=False)
        link.go()       # stay until the subscribers have everything


def relay(link, endpoint):
    """A ROUTER that answers each batch of a :func:`call_batches` and passes it on, unread, to whoever subscribed."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set_hwm(0)
        router.bind(endpoint)
        link.ready()
        subscribers = []
        while True:
            peer, frame = router.recv_multipart(copy=False)
            router.send_multipart([peer, b"answered"])
            if frame.buffer == b"subscribe":
                subscribers.append(peer)
                continue
            for subscriber in subscribers:
                router.send_multipart([subscriber, frame], copy=False)


def read_stream(link, endpoint, readers, messages, make_sink, relayed=False):
    """*readers* sockets, each subscribed to a :func:`stream_batches` or :func:`relay`: decode and check every batch."""
    with zmq.Context() as context:
        poller = zmq.Poller()
        sinks = {}
        for _ in range(readers):
            dealer = context.socket(zmq.DEALER)
            dealer.set_hwm(0)
            dealer.connect(endpoint)
            poller.register(dealer, zmq.POLLIN)
            sinks[dealer] = make_sink()
        if not relayed:
            link.ready()
            link.go()
        for dealer in sinks:
            dealer.send(b"subscribe")
        if relayed:
            for dealer in sinks:
                dealer.recv()
            link.ready()
        began = None
        while any(sink.messages < messages for sink in sinks.values()):
            for dealer, _ in poller.poll():
                began = began or perf_counter()
                sinks[dealer].take(msgpack.unpackb(dealer.recv()))
        for dealer in sinks:
            dealer.close(0)
        return finished(list(sinks.values()), began, messages)
