"""``zstreampub publish``: one message, or every line of files and pipes."""

import json
import sys
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import click

from ..codecs import BYTES, JSON, encode, encode_one, find
from ..errors import InvalidOption, InvalidTopic, ZStreamPubError
from ..topics import check_topic
from . import exits
from .options import SECONDS, Whole, client_options, command, connected, option
from .screen import Out, note
from .source import MAX_LINE_BYTES, Source
from .template import Template, field_of

_TOO_LONG = f"the line has more than {MAX_LINE_BYTES >> 20} MiB; is it text with line ends?"
_GOODBYE_S = 2.0    # after ctrl-C: how long the answers to what was sent are waited for


@command("  zstreampub publish orders.eu.new 'two of them'\n"
         "  zstreampub publish --json 'flights.{origin}.{destination}' --key origin flights.jsonl.gz\n"
         "  tail -f access.log | zstreampub publish --lines web.access")
@click.argument("arguments", nargs=-1, metavar="[TOPIC PAYLOAD | FILE...]")
@option("--lines", "lines_topic", metavar="TOPIC",
        help="Publish each line of the FILEs under TOPIC, as text; an empty line is an empty message.")
@option("--json", "json_topic", metavar="TEMPLATE",
        help="Publish each line of the FILEs, a JSON value, under a topic with {field} or {outer.inner} in it; "
             "empty lines are passed over.")
@option("--json-payload", is_flag=True, help="PAYLOAD (or each line of --lines) is JSON.")
@option("--bytes", "bytes_payload", is_flag=True, help="PAYLOAD (or each line of --lines) is bytes, not text.")
@option("--content-type", metavar="TYPE",
        help="PAYLOAD (or each line) is json, text, bytes, or any content type such as image/png, and the message's "
             "header says so. With cbor it is text, or with --json-payload JSON, that is written as CBOR.")
@option("--payload-field", metavar="FIELD", help="With --json: only this field of the line is the payload.")
@option("--key", metavar="KEY", help="Key of the message; with --json the field that holds it.")
@option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of every message; repeatable.")
@option("--id", metavar="ID", help="Id of the message: one that its topic has had lately is not stored again; "
                                   "with --json the field that holds it.")
@option("--unique", is_flag=True, help="The payload is its own id.")
@option("--ttl", "ttl_s", type=SECONDS, help="Readers who come later than that get a gap instead.")
@option("--delay", "delay_s", type=SECONDS, help="It comes that much later; its id for 'zstreampub cancel' goes to "
                                                 "stdout.")
@option("--wait-acked", "consumers", metavar="CONSUMER", multiple=True,
        help="Wait until CONSUMER has acknowledged it, up to --timeout-s; repeatable. The answer, JSON, goes to "
             "stdout; exit code 1 if one has not.")
@option("--batch", type=Whole(1, 1_000_000), default=4096, metavar="N",
        help="At most N lines wait for the server's answer.")
@option("--keep-going/--stop", default=True, help="After a line that cannot be published: skip it, or end there.")
@client_options
def publish(arguments, lines_topic, json_topic, address, timeout_s, **values):
    """Publish one message, or with --lines or --json every line of FILEs.

    Without a FILE, or where it is -, lines come from stdin; a PAYLOAD of - is all of stdin.
    Gzip is recognised by its content. The offset of a single message goes to stdout when it
    is on disk. A line that cannot be published, or is over 64 MiB, is named with its number, and the exit code is 1.
    """
    headers = _parse_headers(values["headers"])
    if values["json_payload"] and values["bytes_payload"]:
        raise click.UsageError("--json-payload and --bytes exclude each other.")
    if lines_topic and json_topic:
        raise click.UsageError("--lines and --json exclude each other.")
    if values["content_type"] is not None:
        _check_content_type(values["content_type"])
        _imply(values)
    terms = _terms(values, timeout_s)
    if lines_topic or json_topic:
        if terms or (lines_topic and values["id"]):
            raise click.UsageError("--id (but with --json), --unique, --ttl, --delay and --wait-acked are for a "
                                   "single message.")
        entries = _json_entries if json_topic else _line_entries
        entry_of = entries(json_topic or lines_topic, values, headers)
        return _publish_lines(arguments, entry_of, values, address, timeout_s)
    if len(arguments) != 2:
        raise click.UsageError("Give TOPIC and PAYLOAD, or --lines TOPIC or --json TEMPLATE and any FILEs.")
    topic, text = arguments
    return _publish_one(topic, text, values, headers, terms, address, timeout_s)


def _terms(values, timeout_s):
    terms = {name: values[name] for name in ("ttl_s", "delay_s") if values[name] is not None}
    if values["unique"]:
        terms["unique"] = "content"
    if values["consumers"]:
        terms.update(wait="acked", wait_for=list(values["consumers"]), wait_timeout_s=timeout_s)
    return terms


def _publish_one(topic, text, values, headers, terms, address, timeout_s):
    try:
        payload = _payload(sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape"), values)
    except ValueError as error:
        raise click.UsageError(f"PAYLOAD: {error}.") from error
    with connected(address, timeout_s) as client:
        payload, headers = _written(payload, headers, values)
        answer = client.publish(topic, payload, headers=headers, key=values["key"], id=values["id"], **terms)
    out = Out()
    out.write(json.dumps(answer) if isinstance(answer, dict) else str(answer))
    out.flush()
    return exits.REFUSED if isinstance(answer, dict) and not answer["complete"] else exits.OK


def _publish_lines(paths, entry_of, values, address, timeout_s):
    from .pump import Account, Pump  # loads gevent

    with ExitStack() as stack:
        sources = [_open(path, stack) for path in paths or ["-"]]
        client = stack.enter_context(connected(address, timeout_s))
        producer = client.producer()
        stack.callback(_close, producer)
        tick = stack.enter_context(_progress(sources))
        account = Account(note)
        pump = Pump(producer, account, values["batch"], stop=not values["keep_going"])
        try:
            pump.run(_entries(sources, entry_of, tick, account))
        except (KeyboardInterrupt, ZStreamPubError):
            pump.finish(_GOODBYE_S)
            raise
        finally:
            tick(None)
            note(account.summary())
    return exits.REFUSED if account.skipped else exits.OK


def _close(producer):
    with suppress(ZStreamPubError):     # the account has every outcome already
        producer.close()


def _entries(sources, entry_of, tick, account):
    """Yield ``(place, make)`` for each line; a file that cannot be read to its end counts as one bad line."""
    for source in sources:
        number = 0
        try:
            for lines in source.lines():
                for line in lines:
                    number += 1
                    make = entry_of(line) if line is not None else partial(_fail, _TOO_LONG)
                    if make is not None:
                        yield f"{source.name}:{number}", make
                tick(account)
        except (ValueError, OSError) as error:
            yield f"{source.name}:{number + 1}", partial(_fail, error)


def _line_entries(topic, values, headers):
    try:
        check_topic(topic)
    except InvalidTopic as error:
        raise click.UsageError(f"--lines: {error}") from error

    def make(line):
        payload, labelled = _written(_payload(line, values), headers, values)
        return topic, payload, values["key"], labelled, None

    return lambda line: partial(make, line)


def _json_entries(template, values, headers):
    try:
        topic = Template(template)
    except ValueError as error:
        raise click.UsageError(f"--json: {error}") from error
    key, id, payload_field = values["key"], values["id"], values["payload_field"]

    def make(line):
        value = _parse_json(line)
        payload = value if payload_field is None else field_of(value, payload_field)
        payload, labelled = _written(payload, headers, values)
        return topic.fill(value), payload, _named(value, key, "key"), labelled, _named(value, id, "id")

    return lambda line: partial(make, line) if line.strip() else None


def _check_content_type(content_type):
    try:
        encode((), None, content_type)
    except InvalidOption as error:
        raise click.UsageError(f"--content-type: {error}") from error


def _imply(values):
    """Take what is typed for what the content type says it is: JSON is read, and what has no codec is bytes."""
    codec = find(values["content_type"])
    if not values["bytes_payload"]:
        values["json_payload"] = values["json_payload"] or codec is JSON
    if not values["json_payload"]:
        values["bytes_payload"] = values["bytes_payload"] or codec in (BYTES, None)


def _written(payload, headers, values):
    content_type = values["content_type"]
    return (payload, headers) if content_type is None else encode_one(payload, headers, content_type)


def _named(value, field, what):
    if field is None:
        return None
    found = field_of(value, field)
    if found is None or found == "":
        return None
    if isinstance(found, (dict, list, bool)):
        raise ValueError(f"field {field!r} is no text or number, so it cannot be the {what}")
    return str(found)


def _payload(raw, values):
    if values["bytes_payload"]:
        return raw
    if values["json_payload"]:
        return _parse_json(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start}); --bytes takes it as it is") from None


def _parse_json(raw):
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None


def _parse_headers(pairs):
    headers = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--header is NAME=VALUE, not {pair!r}.")
        headers[name] = value
    return headers or None


def _open(path, stack):
    try:
        source = Source(path)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}.") from error
    stack.callback(source.close)
    return source


def _fail(error):
    raise ValueError(str(error))


@contextmanager
def _progress(sources):
    """Give ``tick(account)``, which moves a bar on stderr where that is a terminal; ``tick(None)`` removes it.

    None where lines are typed: it would be drawn over them.
    """
    if not sys.stderr.isatty() or any(source.is_terminal for source in sources):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    sizes = [source.size for source in sources]
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
                   console=Console(stderr=True), transient=True)
    task = bar.add_task("publishing", total=None if None in sizes else sum(sizes))

    def tick(account):
        if account is None:
            bar.stop()
        else:
            bar.update(task, completed=sum(source.taken for source in sources),
                       description=f"{account.published:,} messages")

    with bar:
        yield tick
