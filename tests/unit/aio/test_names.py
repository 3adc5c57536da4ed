"""The client for asyncio has the names of zstreampub's own, and loads only when it is asked for."""

import inspect
import subprocess
import sys

import pytest

from zstreampub import aio, client

# What there is no need for, or what belongs to threads: see docs/asyncio.rst.
MISSING = {
    client.Client: {"producer", "queue", "table", "check_owner", "submit", "give_up"},
    client.Subscription: {"wait_open", "watch", "get_batch"},
    client.Consumption: {"wait_open", "watch", "renew", "settle", "extend", "take_ahead", "hand_on", "is_ours"},
    client.Delivery: {"say"},
}


def names(kind):
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize("own", MISSING, ids=lambda own: own.__name__)
def test_every_name_of_the_gevent_client_is_here_or_known_to_be_missing(own):
    here = getattr(aio, own.__name__)

    assert names(own) - names(here) == MISSING[own] - names(here)


@pytest.mark.parametrize("name", sorted(
    names(aio.Client) - {"is_open", "is_connected", "outbox", "subscribe", "consume"}))
def test_a_call_is_a_coroutine_function(name):
    assert inspect.iscoroutinefunction(getattr(aio.Client, name))


@pytest.mark.parametrize("name", ["publish", "publish_many"])
def test_publishing_takes_what_that_of_the_gevent_client_takes(name):
    own, here = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (client.Client, aio.Client))

    assert here == own


def test_importing_zstreampub_loads_nothing_of_it():
    program = "import sys, zstreampub; sys.exit(any(name in sys.modules for name in ('asyncio', 'zstreampub.aio')))"

    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
