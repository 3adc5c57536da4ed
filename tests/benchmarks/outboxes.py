"""What a process that publishes does, with an outbox and without: until all is kept here, or the server has it."""

from time import perf_counter

import zstreampub

from .actors import TOPIC, timed
from .payloads import payload


def publish(link, endpoint, folder, callers, messages, sent):
    """Publish single messages, *callers* at a time. *folder*: of the outbox, None for none; *sent*: until all is."""
    client = _client(endpoint, folder)

    def caller(number):
        for at in range(messages // callers):
            client.publish(TOPIC, payload(0, number, at))

    link.ready()
    link.go()
    return _ended(client, sent, timed(caller, callers))


def produce(link, endpoint, folder, messages, sent):
    """Publish single messages with a producer."""
    client = _client(endpoint, folder)
    link.ready()
    link.go()
    began = perf_counter()
    with client.producer() as producer:
        for at in range(messages):
            producer.publish(TOPIC, payload(0, 0, at))
    return _ended(client, sent, {"began": began, "ended": perf_counter()})


def _client(endpoint, folder):
    client = zstreampub.Client(endpoint, outbox=folder and f"{folder}/outbox")
    client.about()
    return client


def _ended(client, sent, times):
    """Return *times*; all that is in an outbox is sent when this returns, and counts if it is asked for."""
    if client.outbox is not None:
        client.outbox.wait_until_sent()
    return {**times, "ended": perf_counter()} if sent else times
