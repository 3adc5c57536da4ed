"""A process that publishes through an outbox and says what is kept: ``kept WRITER NUMBER`` lines, and ``open`` first.

``python -m tests.outbox_process PLACE ENDPOINT RUN``. Payloads are ``[RUN, WRITER, NUMBER, filling]``; each writer
publishes in its own way to a topic of its own.
"""

import os
import random
import sys

import gevent

from zstreampub import Client

TOPICS = {"single": "out.single", "many": "out.many", "producer": "out.producer"}


def say(*words):
    os.write(1, b"%s\n" % " ".join(map(str, words)).encode())


def fill(chance):
    return bytes(chance.choice([10, 10, 10, 10, 300, 300, 3_000]))


def single(client, run, chance):
    for number in range(1 << 30):
        client.publish(TOPICS["single"], [run, "single", number, fill(chance)])
        say("kept", "single", number)
        yield


def many(client, run, chance):
    number = 0
    while True:
        count = chance.choice([1, 3, 40])
        client.publish_many(TOPICS["many"], [[run, "many", number + at, fill(chance)] for at in range(count)])
        number += count
        say("kept", "many", number - 1)
        yield


def producer(client, run, chance):
    number = 0
    with client.producer() as producer:
        while True:
            for _ in range(chance.choice([1, 10, 200])):
                producer.publish(TOPICS["producer"], [run, "producer", number, fill(chance)], key=str(number))
                number += 1
            producer.flush()
            say("kept", "producer", number - 1)
            yield


def main():
    place, endpoint, run = sys.argv[1:]
    chance = random.Random()

    def write(way):
        for _ in way(client, int(run), chance):
            gevent.sleep(0.002)

    with Client(endpoint, outbox=place) as client:
        say("open")
        gevent.joinall([gevent.spawn(write, way) for way in (single, many, producer)], raise_error=True)


if __name__ == "__main__":
    main()
