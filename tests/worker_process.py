"""A publisher or a member for tests that kill: ``python -m tests.worker_process WHAT ENDPOINT OPTIONS``.

What a member does is written to a SQLite file that all members share: every time that a
message is worked on, and its effect, which counts once however often that is.
"""

import json
import sqlite3
import sys

import gevent

import zstreampub


def publish(endpoint, options):
    """Publish numbered messages, each with an id of its own, going on after ``said``; say what is answered."""
    name, keys = options["name"], options["keys"]
    with zstreampub.Client(endpoint, heartbeat_s=0.5) as client:
        number = options["said"] + 1
        while True:
            # Another process may have sent this very message before it was killed: the id tells.
            offset = client.publish(options["topic"], [name, number], id=f"{name}-{number}",
                                    key=f"{name}{number % keys}")
            print(json.dumps([number, offset]), flush=True)
            number += 1
            gevent.sleep(0.001)


def work(endpoint, options):
    """Work on whatever comes: note it, then acknowledge it. Every so often give one back, or reject it."""
    book = open_book(options["book"])
    client = zstreampub.Client(endpoint, heartbeat_s=0.5)
    settings = {"mode": options["mode"], "ack_wait_s": 5, "start": "earliest", "max_deliveries": 0}
    with client.consume(options["topic"], options["consumer"], max_in_flight=options["in_flight"], **settings) as mine:
        print(json.dumps("ready"), flush=True)
        for message in mine:
            if message.payload[1] % 50 == 7 and message.delivery == 1:
                message.nack(0.05)
                continue
            note(book, options["consumer"], message)
            if message.payload[1] % 10 == 3:
                gevent.sleep(0.02)      # so that many a kill finds work that is done and not acknowledged
            message.ack()       # if it comes too late, the message comes again, and is noted again


def open_book(path):
    """Open the file that all members write to."""
    book = sqlite3.connect(path, timeout=30, isolation_level=None)
    book.execute("PRAGMA journal_mode=WAL")
    book.execute("PRAGMA synchronous=OFF")      # processes are killed, not the machine
    book.execute("CREATE TABLE IF NOT EXISTS work (consumer, offset, key, delivery)")
    book.execute("CREATE TABLE IF NOT EXISTS effects (consumer, offset, name, number, PRIMARY KEY (consumer, offset))")
    return book


def note(book, consumer, message):
    book.execute("BEGIN IMMEDIATE")
    book.execute("INSERT INTO work VALUES (?, ?, ?, ?)", (consumer, message.offset, message.key, message.delivery))
    book.execute("INSERT OR IGNORE INTO effects VALUES (?, ?, ?, ?)", (consumer, message.offset, *message.payload))
    book.execute("COMMIT")


if __name__ == "__main__":
    {"publish": publish, "work": work}[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
