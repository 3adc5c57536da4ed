"""``zstreampub bridge``: from programs that speak plain ZeroMQ to the log, and back."""

import re
from contextlib import ExitStack, closing, contextmanager
from math import inf

import click

from ..errors import InvalidTopic
from ..topics import check_pattern, check_topic
from . import exits, units
from .options import BYTES, SECONDS, Parsed, Whole, client_options, command, connected, end_on_sigterm, option
from .screen import note
from .state import NoState, State
from .telling import losses_told, tell_gap

_LEAST_SPOOL_BYTES = 1 << 10
_ANY = 1 << 50          # messages: bytes are what bounds the spool
_IN, _OUT = ("SUB", "PULL", "PAIR"), ("PUB", "PUSH", "PAIR")


def _socket(kinds):
    def parse(text):
        found = re.fullmatch(r"([A-Za-z]+)@(?:(bind|connect):)?(\w+://.+)", text)
        if found is None or found[1].upper() not in kinds:
            raise ValueError(f"{text!r} is no socket: write KIND@ADDRESS with one of {', '.join(kinds)}, such as "
                             f"{kinds[0]}@tcp://127.0.0.1:5555")
        address = found[3]
        binds = found[2] == "bind" or (found[2] is None and address.startswith("tcp://*:"))
        return found[1].upper(), address, binds
    return Parsed("socket", parse)


@command("  zstreampub bridge --from SUB@tcp://127.0.0.1:5556 --topic weather\n"
         "  zstreampub bridge --from PULL@tcp://*:5555 --topic jobs --spool /var/lib/bridge\n"
         "  zstreampub bridge --from SUB@tcp://127.0.0.1:5556 --topic feed --topic-frame --subscribe prices.\n"
         "  zstreampub bridge --to PUB@tcp://*:5557 --topic 'weather.>' --state weather.state")
@option("--from", "source", type=_socket(_IN), metavar="KIND@ADDRESS",
        help="Publish what comes here. KIND: SUB, PULL or PAIR. It connects to ADDRESS; tcp://*:PORT listens on all "
             "interfaces, bind:ADDRESS on this one (PULL@bind:tcp://127.0.0.1:5555).")
@option("--to", "target", type=_socket(_OUT), metavar="KIND@ADDRESS",
        help="The reverse: send what is published. KIND: PUB, PUSH or PAIR.")
@option("--topic", "topics", multiple=True, metavar="TOPIC",
        help="--from: the topic, or with --topic-frame what goes before it. --to: a pattern; repeatable; default: >.")
@option("--topic-frame/--no-topic-frame", default=None,
        help="The first frame is the topic. --from: default no; what a topic cannot hold is written as %XX. --to: "
             "default yes.")
@option("--subscribe", "prefixes", multiple=True, metavar="PREFIX",
        help="SUB: only messages that begin so; repeatable. Default: all.")
@option("--spool", metavar="DIR", type=click.Path(file_okay=False),
        help="--from: keep messages in DIR, an outbox, until the server has them. Nothing that is there is lost or "
             "doubled, whatever is killed; 'zstreampub outbox DIR' shows and sends what a bridge has left.")
@option("--spool-bytes", type=BYTES, default=1 << 30, metavar="BYTES",
        help="Bound of the spool; when it is full, nothing more is received. At least 1,024.")
@option("--start", type=Parsed("start", units.parse_start), default="new", metavar="WHERE",
        help="--to: as for 'zstreampub subscribe'.")
@option("--state", metavar="FILE", type=click.Path(dir_okay=False),
        help="--to: keep in FILE where to go on. At least once: after a crash, half a second may be sent again.")
@option("--consumer", metavar="NAME",
        help="--to: as a member of this consumer; a message is acknowledged when ZeroMQ has taken it.")
@option("--strip", metavar="PREFIX", help="--to: leave this, and a dot, out of the topic frame.")
@option("--hwm", type=Whole(0), metavar="N",
        help="High-water mark of the socket in messages. Default: ZeroMQ's, 1,000; 0: none.")
@option("--report-s", type=SECONDS, default=10.0, metavar="SECONDS",
        help="How often to say on stderr how many messages went through, if any did; 0: at the end only.")
@client_options
def bridge(source, target, topics, address, timeout_s, **values):
    """Put the durable log behind, or in front of, programs that speak plain ZeroMQ, without touching them.

    --from receives and publishes; --to subscribes and sends. A message of one frame is a payload of bytes, one
    of several frames a list of bytes. On the way back, text is sent as UTF-8, a list of bytes as frames, and
    everything else as JSON.

    While the server is away, --spool takes everything to disk. Without it the bridge stops receiving: whoever sends
    to a PULL or PAIR socket waits then; of a SUB socket, ZeroMQ drops what its queue (--hwm) has no room for, and
    tells nobody how much. What ZeroMQ itself holds when the bridge is killed (up to --hwm messages, and the kernel's
    buffers) is lost with it: no socket of ZeroMQ is told what was received.

    What the server refuses for good is told; with --spool it is kept: 'zstreampub outbox DIR --refused'.
    """
    if (source is None) == (target is None):
        raise click.UsageError("Give either --from or --to.")
    _check_options(source, values)
    topic = _one_topic(topics, values["topic_frame"]) if source else None
    with ExitStack() as stack:
        client = stack.enter_context(connected(address, inf if source else timeout_s, **_outbox_options(values)))
        end_on_sigterm()
        stack.enter_context(losses_told(client, was_connected=source is None))
        if source is not None:
            return _inwards(client, source, topic, values)
        return _outwards(stack, client, target, topics, values)


def _check_options(source, values):
    for_other = ("state", "consumer", "strip") if source else ("spool", "prefixes")
    for name in for_other:
        if values[name]:
            flag = {"prefixes": "subscribe"}.get(name, name)
            raise click.UsageError(f"--{flag} goes with --{'to' if source else 'from'}.")
    if values["state"] and values["consumer"]:
        raise click.UsageError("A consumer keeps its place itself: leave --state out.")
    if values["prefixes"] and source[0] != "SUB":
        raise click.UsageError("--subscribe is for a SUB socket.")
    if values["spool_bytes"] < _LEAST_SPOOL_BYTES:
        raise click.UsageError(f"--spool-bytes is at least {_LEAST_SPOOL_BYTES}.")


# --- from ZeroMQ to the log ------------------------------------------------------------------


def _outbox_options(values):
    if not values["spool"]:
        return {}
    return {"outbox": values["spool"], "outbox_max_bytes": values["spool_bytes"], "outbox_max_messages": _ANY,
            "outbox_when_full": "block"}


def _inwards(client, source, topic, values):
    from gevent.event import AsyncResult

    from ..receive import Receiver, Source
    from ..receive.bridge import Publishing, Topics

    kind, address, binds = source
    failed = AsyncResult()      # ctrl-C and SIGTERM strike whoever waits for it, too
    publishing = Publishing(client, Topics(topic, bool(values["topic_frame"])), note, failed.set_exception)
    if publishing.counts.waiting:
        note(f"{publishing.counts.waiting:,} messages of an earlier run are in {values['spool']}")

    def judge(error, _):
        failed.set_exception(error)
        return "stop"

    socket = Source.zmq(kind, address, bind=binds, subscriptions=values["prefixes"] or (b"",),
                        high_water_mark=values["hwm"])
    receiver = Receiver(socket, publishing, judge)
    try:
        with _reports(publishing.counts, values["report_s"]):
            try:
                receiver.start().wait_open()
                note(f"{kind} {'listens on' if binds else 'connects to'} {address}; ctrl-C ends")
                failed.get()
            finally:
                publishing.stop()
                receiver.shutdown()
    finally:
        _tell_loss(publishing, values["spool"])


def _tell_loss(publishing, spool):
    refused, unkept = publishing.counts.refused, publishing.unkept
    if refused and spool:
        note(f"{refused:,} were refused: 'zstreampub outbox {spool} --refused' shows which, and why")
    if unkept:
        note(f"{unkept:,} messages were received, and " + (f"are not in {spool}: they are lost." if spool else
             "the server has not said that it has them: they may be lost. --spool keeps them."))


def _one_topic(topics, has_frame):
    if len(topics) > 1 or (not topics and not has_frame):
        raise click.UsageError("--from takes one --topic; with --topic-frame it may be left out.")
    if not topics:
        return None
    try:
        return check_topic(topics[0])
    except InvalidTopic as error:
        raise click.UsageError(f"--topic: {error}") from error


# --- from the log to ZeroMQ ------------------------------------------------------------------


def _outwards(stack, client, target, topics, values):
    from ..receive.bridge import Counts
    from ..receive.frames import frame_of, frames_of
    from ..receive.zeromq import Sender

    kind, address, binds = target
    patterns = [_pattern(one) for one in topics] or [">"]
    sender = stack.enter_context(closing(Sender(kind, address, binds, values["hwm"])))
    counts = Counts()
    note(f"{kind} {'listens on' if binds else 'connects to'} {address}; ctrl-C ends")

    def send(message):
        counts.received += 1
        frames = frames_of(message.payload)
        if values["topic_frame"] is not False:
            frames = [frame_of(message.topic, values["strip"]), *frames]
        sender.send(frames)
        counts.sent += 1

    with _reports(counts, values["report_s"]):
        if values["consumer"]:
            _send_of_consumer(client, patterns if topics else None, values, send)
        else:
            _send_of_subscription(client, patterns, values, send)
    return exits.OK


def _send_of_subscription(client, patterns, values, send):
    state = State(values["state"]) if values["state"] else NoState()
    start = {"start": values["start"]} if state.offset is None else {"start": state.offset, "epoch": state.epoch}
    stream = client.subscribe(patterns, on_gap=tell_gap, on_control=state.see, **start)
    with state.kept(), closing(stream):
        for batch in stream.batches():
            for message in batch.messages():
                send(message)
            state.reach(batch.next)


def _send_of_consumer(client, patterns, values, send):
    settings = {} if patterns is None else {"start": values["start"]}
    with client.consume(patterns, values["consumer"], on_gap=tell_gap, **settings) as deliveries:
        for delivery in deliveries:
            send(delivery)
            delivery.ack()


def _pattern(text):
    try:
        return check_pattern(text)
    except InvalidTopic as error:
        raise click.UsageError(f"--topic: {error}") from error


# --- both ------------------------------------------------------------------------------------


@contextmanager
def _reports(counts, period_s):
    """Say how many went through: now and then, and at the end."""
    import gevent

    def sentence():
        parts = [f"{counts.received:,} received", f"{counts.sent:,} sent on"]
        if counts.refused:
            parts.append(f"{counts.refused:,} refused")
        if counts.waiting:
            parts.append(f"{counts.waiting:,} wait")
        return ", ".join(parts)

    def report():
        last = None
        while period_s:
            gevent.sleep(period_s)
            if sentence() != last:
                last = sentence()
                note(last)

    reporter = gevent.spawn(report)
    try:
        yield
    finally:
        reporter.kill()
        note(sentence())
