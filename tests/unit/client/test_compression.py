"""Compression as the client does it: only where the server of this connection said that it takes it."""

import os

import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, sealed, spawned
from zstreampub.client import Client
from zstreampub.compression import ExtType, Zstd

TEXT = "the same again " * 100


@pytest.fixture
def client(server):
    server.limits["compressions"] = ["zstd"]
    with Client(server.endpoint, timeout_s=DEADLINE_S, compression="zstd") as client:
        client.about()
        yield client


def refuse_ext(request):
    """Do what a server without the library does."""
    if any(type(part) is ExtType for part in request.args[0]):
        request.error("InvalidBatch", "No compressed batches here.")
    else:
        request.server.do_append(request)


def kinds(server):
    """Return the types of what each append carried."""
    return [[type(part) for part in request.args[0]] for request in server.named("append")]


def store_ext(request):
    zstd = Zstd()
    parts = [zstd.unpack(part, 1 << 20)[0] if type(part) is ExtType else part for part in request.args[0]]
    request.args[0] = parts
    request.server.do_append(request)


def test_what_shrinks_is_sent_compressed_and_small_things_plain(server, client):
    seen = []

    def store(request):
        seen.extend(map(type, request.args[0]))
        store_ext(request)
    server.on["append"] = store

    offsets = client.publish("a", TEXT), client.publish("a", "short")

    assert offsets == (0, 1)
    assert server.log == [("a", TEXT), ("a", "short")]
    assert seen == [ExtType, bytes]


def test_what_goes_through_an_outbox_is_compressed_too(server, tmp_path):
    seen = []

    def store(request):
        seen.extend(map(type, request.args[0]))
        store_ext(request)

    server.on["append"] = store
    server.limits["compressions"] = ["zstd"]
    with Client(server.endpoint, timeout_s=DEADLINE_S, compression="zstd", outbox=tmp_path / "outbox") as client:
        assert client.publish("a", TEXT).get(timeout=DEADLINE_S) == 0

    assert seen == [ExtType] and server.log == [("a", TEXT)]


def test_what_is_sent_again_goes_plain_for_the_server_may_be_another(server, client):
    server.on["append"] = lambda request: None
    publishing = spawned(client.publish, "a", TEXT)
    server.wait_for("append")
    server.limits["compressions"] = []
    server.on["append"] = refuse_ext

    server.restart()

    assert outcome(publishing) == 0
    assert kinds(server) == [[ExtType], [bytes]]
    assert client.publish("a", TEXT) == 1


def test_without_a_word_of_the_server_everything_is_plain(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S, compression="zstd") as client:
        assert client.publish("a", TEXT) == 0

    assert kinds(server) == [[bytes]]


def test_a_subscription_says_what_it_reads_and_reads_what_comes(server, client):
    subscription = client.subscribe("a")
    request = server.wait_for("subscribe")
    zstd = Zstd()

    request.send("STREAM", [1, zstd.pack(sealed(0, TEXT, "x").packed), sealed(2, "y").packed])

    assert [subscription.get(DEADLINE_S).payload for _ in range(3)] == [TEXT, "x", "y"]
    assert request.options["compression"] == ["zstd"]


@pytest.mark.parametrize("part", [ExtType(1, bytes(36) + b"junk"), ExtType(9, b"")])
def test_what_cannot_be_unpacked_is_a_broken_stream(server, client, part):
    subscription = client.subscribe("a", start=0)
    server.wait_for("subscribe").send("STREAM", [1, part])
    reading = spawned(subscription.get, DEADLINE_S)

    server.wait_for("subscribe", 2).batches(sealed(0, "whole"))

    assert outcome(reading).payload == "whole"
    assert subscription.resumed == 1


def test_credit_is_given_back_for_compressed_bytes_too(server, client):
    subscription = client.subscribe("a")
    request = server.wait_for("subscribe")
    noise = os.urandom(300_000)
    request.send("STREAM", [1, Zstd().pack(sealed(0, noise + bytes(100_000)).packed)])
    request.number += 1
    request.batches(sealed(1, "x"))

    assert [subscription.get(DEADLINE_S).offset for _ in range(2)] == [0, 1]

    server.wait(lambda: request.grants[1:] == [2])      # at once, as it was more than 256 KiB
