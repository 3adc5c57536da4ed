"""A scripted server for the tests of the client: a ROUTER that answers what the test says.

By itself it answers ``about``, stores what is appended (once for each producer and
sequence) in ``log``, greets subscriptions and members, and says yes to ``unsubscribe``, ``ack``
and the like. A test replaces the answer to a method by ``server.on[name] = function of the request``.
"""

import errno
import gc
import socket
from time import monotonic

import gevent
import zmq
from gevent.event import Event

from zstreampub import wire
from zstreampub.message import Batch
from zstreampub.transport import PeerGone, Transport

DEADLINE_S = 10


class Request:
    """One request that came in, and the means to answer it."""

    def __init__(self, server, peer, id, name, args):
        self.server, self.peer, self.id, self.name, self.args = server, peer, id, name, args
        self.credit = 0
        self.grants: list = []
        self.beats = 0
        self.number = 0

    def send(self, name, args):
        try:
            self.server.transport.send(self.peer, wire.answer(self.id, self.server.new_id(), name, wire.pack(args)))
        except PeerGone:
            pass        # the test is about what the client makes of it

    def ok(self, value):
        self.send(wire.OK, (value,))

    def error(self, name, message="No."):
        self.send(wire.ERR, (name, message, None))

    # --- as a stream ---------------------------------------------------------------------

    @property
    def options(self):
        return self.args[1]

    def greet(self, **fields):
        self.control("subscribed", **{"id": f"sub-{self.id.hex()}", "epoch": "log-1", "offset": 0,
                                      "heartbeat_s": self.server.heartbeat_s, **fields})

    def control(self, kind, **fields):
        self.send(wire.STREAM, {"control": kind, **fields, "n": self.number})
        self.number += 1

    def batches(self, *batches):
        self.send(wire.STREAM, [self.number, *(batch.packed for batch in batches)])
        self.number += 1

    def hand_out(self, token, *batches, delivery=1, ack_wait_s=30.0):
        """Send a consumer's member *batches*, as one hand-out."""
        fields = {"token": token, "delivery": delivery, "ack_wait_s": ack_wait_s}
        self.send(wire.STREAM, [self.number, fields, *(batch.packed for batch in batches)])
        self.number += 1

    def messages(self, first, *payloads, topic="a"):
        self.batches(sealed(first, *payloads, topic=topic))

    def end(self, why, resume):
        self.control("end", why=why, resume=resume, message="")
        if why == "until":
            self.send(wire.STREAM_DONE, None)
        else:
            self.error(why)


class FakeServer:
    def __init__(self, heartbeat_s=5.0):
        self.heartbeat_s = heartbeat_s
        self.ack_wait_s = 30.0
        self.limits: dict = {}
        self.on: dict = {}
        self.requests: list = []
        self.log: list = []         # (topic, payload)
        self.endpoint = "tcp://127.0.0.1:0"
        self.changed = Event()
        self._channels: dict = {}
        self._stored: dict = {}
        self._ids = 0
        self.start()

    def start(self):
        """Listen, on the same address as before."""
        router = zmq.Context.instance().socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.bind(self.endpoint)
        self.endpoint = router.getsockopt(zmq.LAST_ENDPOINT).decode()
        self.transport = Transport(router, self._receive)

    def stop(self):
        """Vanish without a word; nobody listens any more when this returns."""
        self.transport.close()
        self._channels.clear()
        host, port = self.endpoint.removeprefix("tcp://").split(":")
        ends = monotonic() + DEADLINE_S
        while monotonic() < ends:       # libzmq closes the socket in a thread of its own
            with socket.socket() as probe:
                probe.settimeout(0.05)      # it may be closed between our SYN and its answer, which would take 1 s
                if probe.connect_ex((host, int(port))) == errno.ECONNREFUSED:
                    break

    def restart(self):
        self.stop()
        self.start()

    def named(self, name):
        """Return the requests for method *name*, in the order in which they came."""
        return [request for request in self.requests if request.name == name]

    def wait(self, fulfilled):
        """Wait until *fulfilled()* is true, looking whenever a frame came; return what it returned."""
        with gevent.Timeout(DEADLINE_S, AssertionError("what the test waits for did not happen")):
            while not (found := fulfilled()):
                self.changed.clear()
                self.changed.wait(0.05)
        return found

    def wait_for(self, name, count=1):
        """Wait for the *count*-th request for method *name*, and return it."""
        return self.wait(lambda: len(self.named(name)) >= count and self.named(name)[count - 1])

    def new_id(self):
        self._ids += 1
        return b"answer-%d" % self._ids

    def _receive(self, peer, blob):
        header, name, args = wire.unpack_event(blob)
        channel = self._channels.get((peer, header.get("response_to")))
        if name == wire.MORE and channel is not None:
            channel.credit += args[0]
            channel.grants.append(args[0])
        elif name == wire.HEARTBEAT and channel is not None:
            channel.beats += 1
        elif "response_to" not in header:
            request = Request(self, peer, header["message_id"], name, args)
            assert (peer, request.id) not in self._channels, "a message_id was used twice"
            self._channels[peer, request.id] = request
            self.requests.append(request)
            (self.on.get(name) or getattr(self, f"do_{name}", self._do_unknown))(request)
        self.changed.set()

    # --- what it answers by itself ----------------------------------------------------------

    def do_about(self, request):
        request.ok({"epoch": "log-1", "heartbeat_s": self.heartbeat_s, "next": len(self.log), **self.limits})

    def do_append(self, request):
        packed, options = request.args
        name = options["producer"], options["sequence"]
        if name not in self._stored:
            self._stored[name] = firsts = []
            for batch in map(Batch.parse, packed):
                firsts.append(len(self.log))
                self.log += [(batch.topic, payload) for payload in batch.payloads]
        request.ok(self._stored[name])

    def do_subscribe(self, request):
        if "consumer" in request.options:
            request.greet(consumer=request.options["consumer"], max_in_flight=256, ack_wait_s=self.ack_wait_s,
                          held=request.options.get("held", []))
            return
        start = request.options.get("start")
        request.greet(offset=start if type(start) is int else len(self.log))

    def do_unsubscribe(self, request):
        request.ok(True)

    def do_ack(self, request):
        request.ok(1)

    do_nack = do_reject = do_extend = do_ack

    def _do_unknown(self, request):
        request.error("UnknownMethod", f"There is no method {request.name!r}.")


def sealed(first, *payloads, topic="a"):
    """Return a batch as it stands in the log."""
    batch = Batch.of(topic, list(payloads))
    batch.seal(first, 1_700_000_000_000_000)
    return batch


def append_of(request):
    """Return what an ``append`` request carries: ``[(topic, payloads), ...]``."""
    return [(batch.topic, batch.payloads) for batch in map(Batch.parse, request.args[0])]


def spawned(function, *args, **options):
    """Run *function* in a greenlet; its outcome is asked for with ``.get()``."""
    return gevent.spawn(function, *args, **options)


def outcome(task):
    """Return what a greenlet returned or raised, within the deadline."""
    with gevent.Timeout(DEADLINE_S, AssertionError("the greenlet has not ended")):
        task.join()
    return task.value if task.successful() else task.exception


def turn():
    """Let everything that can run now run."""
    for _ in range(5):
        gevent.idle()
    gc.collect(0)
