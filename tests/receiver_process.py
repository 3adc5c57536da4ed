"""A receiver, or a program of plain ZeroMQ, for tests that kill: ``python -m tests.receiver_process WHAT ...``."""

import json
import sys
import time

import zmq

from zstreampub import Chain, FifoStore, Receiver, ThreadedReceiver


def receive(endpoint, options):
    """Hand over from *endpoint* into the store at ``path``, with the source's options; say how many there are.

    With ``every``, only the first of so many.
    """
    kind = ThreadedReceiver if options.pop("threaded") else Receiver
    store = FifoStore(options.pop("path"))
    chain = Chain({"every": options.pop("every")}) if "every" in options else None
    receiver = kind(endpoint, store, lambda error, message: "retry", filter=chain, heartbeat_s=0.5, **options).start()
    said = None
    while not receiver.join(0.02):
        if len(store) != said:
            said = len(store)
            print(json.dumps(said), flush=True)
    raise SystemExit(repr(receiver.error))


def push(endpoint, options):
    """Send numbers on a PUSH socket that listens at *endpoint*, for ever, in the usual way."""
    socket = zmq.Context().socket(zmq.PUSH)
    socket.bind(endpoint)
    number = 0
    while True:
        socket.send_multipart([b"numbers", b"%d" % number])
        number += 1
        time.sleep(options["pause_s"])


if __name__ == "__main__":
    {"receive": receive, "push": push}[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
