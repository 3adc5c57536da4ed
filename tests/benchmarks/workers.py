"""Work queues compared: members take one message, acknowledge it, wait until that is durable, take the next.

Each peer is filled before the clock starts. An actor returns when its members began, when the
last acknowledgement was answered, and which messages it had, so that each can be found to have come once.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

import gevent

import zstreampub
from zstreampub.errors import RequestTimeout

from .payloads import BATCH

CONSUMER = "workers"
TOPIC = "bench.work"
_IDLE_S = 2.0       # nothing for so long: all has been taken (not counted: the clock stops at the last acknowledgement)
_REDIS_BATCH = 1000


def fill(endpoint, messages):
    """Create the consumer and publish *messages* numbers of 100 bytes for it."""
    with zstreampub.Client(endpoint) as client:
        client.create_consumer(CONSUMER, TOPIC)
        for first in range(0, messages, BATCH):
            client.publish_many(TOPIC, _payloads(first, min(first + BATCH, messages)))


def number_payload(number):
    return b"%012d" % number + bytes(88)


def _payloads(first, next):
    return [number_payload(number) for number in range(first, next)]


def work_singly(link, endpoint, members):
    """*members* greenlets of one client, each a member of the consumer."""
    client = zstreampub.Client(endpoint)
    client.about()
    return _play(link, members, partial(_consume_singly, client), greenlets)


def _consume_singly(client, took):
    with client.consume(consumer=CONSUMER) as consumption:
        while True:
            try:
                delivery = consumption.get(timeout_s=_IDLE_S)
            except RequestTimeout:
                return
            delivery.ack().get()
            took(delivery.payload)


def work_in_batches(link, endpoint, members):
    """The same, but what is at hand is acknowledged together."""
    client = zstreampub.Client(endpoint)
    client.about()
    return _play(link, members, partial(_consume_batches, client), greenlets)


def _consume_batches(client, took):
    with client.consume(consumer=CONSUMER, max_in_flight=4 * BATCH) as consumption:
        last = None
        try:
            while True:
                delivery = consumption.get(timeout_s=_IDLE_S)
                last = delivery.ack()
                took(delivery.payload, last)
        except RequestTimeout:
            if last is not None:
                last.get()


def work_fetching(link, endpoint, members):
    """*members* greenlets that fetch one message at a time, as a client without streams does."""
    client = zstreampub.Client(endpoint)
    client.about()
    return _play(link, members, partial(_fetch_singly, client), greenlets)


def _fetch_singly(client, took):
    while True:
        found = client.fetch(CONSUMER, 1)
        if not found:
            return
        found[0].ack().get()
        took(found[0].payload)


# --- peers -----------------------------------------------------------------------------------


def fill_redis(port, messages):
    """Make a stream with a group, and *messages* in it."""
    import redis
    client = redis.Redis(port=port)
    client.xgroup_create(TOPIC, CONSUMER, mkstream=True)
    for first in range(0, messages, _REDIS_BATCH):
        pipe = client.pipeline(transaction=False)
        for number in range(first, min(first + _REDIS_BATCH, messages)):
            pipe.xadd(TOPIC, {b"d": number_payload(number)})
        pipe.execute()


def work_redis(link, port, members):
    """*members* threads, each a consumer of the group: XREADGROUP COUNT 1, XACK."""
    return _play(link, members, partial(_read_group, port), threads)


def _read_group(port, took):
    import redis
    client = redis.Redis(port=port)
    name = str(id(client))
    while True:
        found = client.xreadgroup(CONSUMER, name, {TOPIC: ">"}, count=1)
        if not found:
            return
        (_, ((id_, fields),)), = found
        if client.xack(TOPIC, CONSUMER, id_) != 1:
            raise RuntimeError("Redis did not take the acknowledgement")
        took(fields[b"d"])


def fill_sqlite(folder, messages):
    """Fill a SQLiteAckQueue; faster than by ``put``, which syncs each."""
    import persistqueue
    queue = persistqueue.SQLiteAckQueue(folder, multithreading=True, auto_commit=True)
    for number in range(messages):
        queue.put(number_payload(number))
    queue.close()


def work_sqlite(link, folder, members):
    """*members* threads on one SQLiteAckQueue."""
    import persistqueue
    queue = persistqueue.SQLiteAckQueue(folder, multithreading=True, auto_commit=True)
    return _play(link, members, partial(_get_and_ack, queue), threads)


def _get_and_ack(queue, took):
    import persistqueue
    while True:
        try:
            item = queue.get(block=False)
        except persistqueue.Empty:
            return
        queue.ack(item)
        took(item)


# --- playing ---------------------------------------------------------------------------------


def _play(link, members, work, run):
    """Run ``work(took)`` for each member.

    ``took(payload, answer)`` notes a message that is acknowledged, or will be once *answer* is there.
    """
    numbers = []
    ends = [0.0]

    def took(payload, answer=None):
        numbers.append(int(payload[:12]))
        if answer is None:
            ends[0] = perf_counter()
        else:
            answer.rawlink(lambda _: took_answer())

    def took_answer():
        ends[0] = perf_counter()

    link.ready()
    link.go()
    began = perf_counter()
    run(partial(work, took), members)
    return {"began": began, "ended": ends[0], "numbers": numbers}


def greenlets(member, count):
    gevent.joinall([gevent.spawn(member) for _ in range(count)], raise_error=True)


def threads(member, count):
    with ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(member) for _ in range(count)]:
            one.result()
