"""A process with stock zerorpc clients: ``python -m tests.stock_process WHAT ENDPOINT OPTIONS``.

Says as JSON lines what it received or was answered, so that a test can compare what a client
was told with what is in the log, whatever happened to client or server in between.
"""

import json
import sys

import gevent
import zerorpc

_LINGER = 17


def _client(endpoint, options):
    one = zerorpc.Client(timeout=options.get("timeout", 30), heartbeat=options.get("heartbeat", 5))
    one._events.setsockopt(_LINGER, 0)
    one.connect(endpoint)
    return one


def _say(value):
    print(json.dumps(value), flush=True)


def subscribe(endpoint, options):
    """Say every item of one subscription, then how it ended. ``pause_s``: time spent on each message."""
    stream = _client(endpoint, options).subscribe(options["patterns"], options.get("subscribe", {}))
    pause_s, short = options.get("pause_s", 0), options.get("short", False)
    try:
        for item in stream:
            if short and "payload" in item:
                item = {"offset": item["offset"]}
            _say(item)
            if pause_s:
                gevent.sleep(pause_s)
        _say({"ended": "done"})
    except zerorpc.RemoteError as error:
        _say({"ended": error.name, "message": error.msg})
    except zerorpc.LostRemote:
        _say({"ended": "LostRemote"})


def resume(endpoint, options):
    """Subscribe again and again, each time where the last message was; say each message's offset and payload."""
    start, epoch = options.get("start", "earliest"), None
    while True:
        one = _client(endpoint, options)
        try:
            for item in one.subscribe(options["patterns"], {"start": start, **({"epoch": epoch} if epoch else {})}):
                if item.get("control") == "subscribed":
                    epoch = item["epoch"]
                elif item.get("control") in ("end", "gap"):
                    _say(item)
                elif "payload" in item:
                    _say([item["offset"], item["payload"]])
                    start = item["offset"] + 1
        except (zerorpc.LostRemote, zerorpc.TimeoutExpired):
            pass
        except zerorpc.RemoteError as error:
            _say({"ended": error.name, "message": error.msg})
        one.close()
        gevent.sleep(0.02)


def consume(endpoint, options):
    """Join a consumer; say ``[offset, payload, delivery]`` of each message, and acknowledge at most ``acks`` of them.

    Acknowledged is over a connection of its own, as a stock client needs one for each stream; said is
    ``{"acked": offset}`` when the answer is there. Joins again whenever the connection is lost.
    """
    acks = options.get("acks", 1 << 40)
    while True:
        reading, acking = _client(endpoint, options), _client(endpoint, options)
        try:
            for item in reading.subscribe(options["patterns"], {"consumer": options["consumer"], **options["join"]}):
                if "control" in item:
                    _say(item)
                    continue
                _say([item["offset"], item["payload"], item["delivery"]])
                if acks > 0:
                    acks -= 1
                    acking.ack(options["consumer"], [[item["offset"], item["token"]]])
                    _say({"acked": item["offset"]})
        except (zerorpc.LostRemote, zerorpc.TimeoutExpired):
            pass
        except zerorpc.RemoteError as error:
            _say({"ended": error.name, "message": error.msg})
        reading.close()
        acking.close()
        gevent.sleep(0.02)


def publish(endpoint, options):
    """Publish numbers for ever from ``width`` greenlets; say what was answered: ``[offset, payload]``."""
    one = [_client(endpoint, options)]
    numbers = iter(range(1 << 40))

    def work():
        while True:
            mine, payload = one[0], f"{options['name']}-{next(numbers)}"
            try:
                _say([mine.publish(options["topic"], payload), payload])
            except (zerorpc.LostRemote, zerorpc.TimeoutExpired):
                if mine is one[0]:      # the first to hear of it connects anew
                    one[0] = _client(endpoint, options)
                    mine.close()
            except zerorpc.RemoteError as error:
                _say({"refused": error.name})
                gevent.sleep(0.02)

    gevent.joinall([gevent.spawn(work) for _ in range(options.get("width", 8))], raise_error=True)


def visit(endpoint, options):
    """Come and go ``count`` times: connect, publish, read a little of a stream, leave without a word."""
    for number in range(options["count"]):
        one = _client(endpoint, options)
        one.publish("visit", number)
        stream = iter(one.subscribe("visit", {"start": {"last": 3}}))
        next(stream)
        next(stream)
        one.close()
        _say(number)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
