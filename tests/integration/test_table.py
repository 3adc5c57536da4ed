"""Tables on the topics of a real server: seen by several clients, over lost connections, in a directory."""

import subprocess
import sys

import gevent
import pytest

from tests.processes import ROOT, Child, ServerProcess, wait_until
from zstreampub import AckQueue, Client, Table
from zstreampub.errors import StoreClosed

RULES = dict(retention=[{"pattern": "table.>", "newest_per_key": True}], retention_interval_s=0.05, tombstone_s=0.1)

SCRIPT = """
import sys
if "patched" in sys.argv:
    from gevent import monkey
    monkey.patch_all()
import threading
from zstreampub import Table as PDict

def write(worker):
    with PDict(sys.argv[1], "testname") as mine:
        for number in range(20):
            mine[f"{worker}.{number}"] = number

q = PDict(sys.argv[1], "testname")
q["key1"] = 123
q["key2"] = 321
assert q["key1"] == 123 and len(q) == 2
del q["key1"]
try:
    q["key1"]
except KeyError:
    pass
else:
    raise AssertionError
writers = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
q["last"] = True
assert len(q) == 62, len(q)
q.close()
q = PDict(sys.argv[1], "testname")
assert len(q) == 62 and q["2.19"] == 19
print("done")
"""


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server", **RULES) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.endpoint) as client:
        yield client


@pytest.fixture
def other(server):
    with Client(server.endpoint) as client:
        yield client


@pytest.mark.parametrize("how", ["plain", "patched"])
@pytest.mark.parametrize("where", ["directory", "server"])
def test_a_script_for_pdict_works_with_threads(how, where, tmp_path, request):
    place = str(tmp_path / "table") if where == "directory" else request.getfixturevalue("server").endpoint

    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT, place, how], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)

    assert done.returncode == 0 and done.stdout == "done\n", done.stderr
    assert not done.stderr


def test_what_one_client_writes_it_reads_at_once_and_another_is_told(client, other):
    mine, theirs = client.table("table.prices"), other.table("table.prices")
    with theirs.watch() as changes:
        mine["tea"] = 3
        assert mine["tea"] == 3
        mine.update({f"k{n}": n for n in range(1500)})
        assert len(mine) == 1501

        first = changes.get(10)
        assert first[:3] == ("tea", 3, None)
        wait_until(lambda: len(theirs) == 1501, "all keys in the other table")
    assert dict(mine) == dict(theirs)


def test_of_clients_that_compare_and_set_one_wins_each_time(client, other):
    tables = [client.table("table.count"), other.table("table.count")]
    tables[0]["n"] = 0

    def count(table):
        for _ in range(20):
            while not table.compare_and_set("n", table["n"] + 1, table.offset("n")):
                gevent.sleep(0)

    wait_until(lambda: "n" in tables[1], "the key in the other table")
    gevent.joinall([gevent.spawn(count, table) for table in tables], raise_error=True)

    wait_until(lambda: [table["n"] for table in tables] == [40, 40], "the sum in both tables")


def test_compare_and_set_goes_on_when_the_newest_messages_are_gone(client, other):
    with client.table("table.x") as table:
        table["a"] = 1
        del table["a"]
        wait_until(lambda: not client.topics("table.x"), "removal of the deletion")

    with other.table("table.x") as later:
        assert later.compare_and_set("a", 2, None)
        assert dict(later) == {"a": 2}


def test_a_table_goes_on_when_the_server_was_killed_and_is_back(server, client):
    table = client.table("table.x")
    table["a"] = 1
    changes = table.watch()
    server.kill()
    assert table["a"] == 1

    with server.again(), Client(server.endpoint) as second:
        with second.table("table.x") as writer:
            assert dict(writer) == {"a": 1}
            writer["b"] = 2

        assert changes.get(30)[:3] == ("b", 2, None)
        table["c"] = 3
        assert dict(table) == {"a": 1, "b": 2, "c": 3}


def test_a_table_that_was_away_for_longer_than_deletions_are_kept_forgets_what_was_deleted(server, client, tmp_path):
    with Child(tmp_path / "proxy", "tests.tcp_proxy", server.endpoint.removeprefix("tcp://")) as proxy:
        far = wait_until(proxy.said, "a proxy")[0]["endpoint"]
        with Client(far, heartbeat_s=0.2) as away, away.table("table.x") as table, client.table("table.x") as writer:
            table.update(stays=1, goes=1)
            changes = table.watch()
            proxy.freeze()
            wait_until(lambda: not away.is_connected, "loss of the connection")
            del writer["goes"]
            writer["new"] = 1
            wait_until(lambda: client.topics("table.x")[0]["messages"] == 2, "removal of the deletion")

            proxy.thaw()

            assert {changes.get(30)[:3], changes.get(30)[:3]} == {("goes", None, 1), ("new", 1, None)}
            assert dict(table) == {"stays": 1, "new": 1}


def test_a_table_of_a_log_that_was_made_anew_is_what_the_new_log_says(server, client, tmp_path):
    table = client.table("table.x")
    table.update(old=1, both=1)
    changes = table.watch()
    server.kill()

    with ServerProcess(tmp_path / "anew", endpoint=server.endpoint, **RULES), Client(server.endpoint) as second:
        with second.table("table.x") as writer:
            writer["both"] = 2
        seen = {changes.get(30)[:3] for _ in range(2)}
        wait_until(lambda: dict(table) == {"both": 2}, lambda: f"the new log, not {dict(table)}")

        assert ("old", None, 1) in seen
        table["works"] = 1
        assert dict(table) == {"both": 2, "works": 1}


def test_closing_the_client_ends_its_tables(server):
    client = Client(server.endpoint)
    table = client.table("table.x")
    watching = gevent.spawn(list, table.watch())
    table["a"] = 1

    client.close()

    assert [change.key for change in watching.get(timeout=10)] == ["a"]
    with pytest.raises(StoreClosed):
        table["a"]


def test_a_table_in_a_directory_and_its_queues_share_the_store(tmp_path):
    with Table(tmp_path, "prices") as table, AckQueue(tmp_path) as queue:
        table["tea"] = 3
        queue.put("job")

        assert (dict(table), queue.get()) == ({"tea": 3}, "job")
