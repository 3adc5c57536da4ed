"""What tests of members share: a member that has joined, and what the server was told of deliveries."""

from tests.unit.client.fake_server import DEADLINE_S


def hold(request):
    """Leave a request without an answer."""


def take(consumption, count):
    """Return the next *count* deliveries."""
    return [consumption.get(DEADLINE_S) for _ in range(count)]


def payloads(deliveries):
    return [delivery.payload for delivery in deliveries]


def acked(server):
    """Return the offsets that were acknowledged."""
    return sorted(offset for [ranges, _] in said(server) for first, next, _ in ranges for offset in range(first, next))


def said(server, verb="ack"):
    """Return the arguments of the requests *verb*, without the consumer's name; those of leaving are not among them."""
    return [request.args[1:] for request in server.named(verb) if verb == "extend" or "unseen" not in request.args[-1]]


def joined(server, client, *batches, token=1, **options):
    """Return a member and its stream, with *batches* on their way."""
    consumption = client.consume("a", "c", **options)
    stream = server.wait_for("subscribe")
    if batches:
        stream.hand_out(token, *batches)
    return consumption, stream
