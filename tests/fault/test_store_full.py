"""A full disk and a full map: publishing is refused, reading and trimming go on, and it heals by itself."""

import os
import subprocess
import sys

import pytest

from tests.need import need, need_command
from tests.store_tools import EVERYTHING, Stores, contents, read_all
from zstreampub.errors import StoreFull
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append
from zstreampub.topics import PatternSet

FILL = 2_000


def fill(follower, size=10_000, topics=3):
    """Publish until the store is full; returns the offsets that were given and the error."""
    offsets = []
    for at in range(FILL):
        append = follower.append(Batch.of(f"t.{at % topics}", [b"x" * size]))
        if append.error is not None:
            return offsets, append.error
        offsets += append.firsts
    raise AssertionError("the store never got full")


def heals(store, follower):
    """Everything that was answered can be read; trimming makes room; publishing goes on. Many times over."""
    for _ in range(8):
        offsets, error = fill(follower)
        assert type(error) is StoreFull
        found = [offset for offset, _, _ in contents(read_all(store, cursor=store.bounds()[0])[0])]
        assert found[len(found) - len(offsets):] == offsets
        store.check()
        first, end = store.bounds()
        assert store.trim(EVERYTHING, first + (end - first) // 2) > 0
        assert follower.append(Batch.of("t.0", [b"small"])).error is None


def test_a_full_map(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    store, follower = stores.open(Settings(max_store_bytes=1 << 20))

    heals(store, follower)

    assert store.stats()["file_bytes"] < 16 << 20
    stores.close_all()


def test_one_batch_at_a_time_can_be_trimmed_from_a_full_map(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    store, follower = stores.open(Settings(max_store_bytes=1 << 20))
    offsets, _ = fill(follower, size=1_000, topics=40)

    for offset in offsets[:100]:
        assert store.trim(EVERYTHING, offset + 1) == 1

    assert follower.append(Batch.of("t.0", ["again"])).error is None
    stores.close_all()


def test_one_topic_of_many_can_be_trimmed_whatever_must_be_written_anew_for_it(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    store, follower = stores.open()
    for _ in range(20):
        follower.append_all([Append([Batch.of(f"t.{at % 7}", [b"x" * 10_000])]) for at in range(140)])

    assert store.trim(PatternSet(["t.3"]), 2_800) == 400

    stores.close_all()


def test_what_the_hub_keeps_for_itself_does_not_use_up_what_removing_needs(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    store, follower = stores.open(Settings(max_store_bytes=1 << 20))
    fill(follower)
    kept = 0
    while (append := follower.append(records={b"%03d" % kept: b"x" * 50_000}, changes=[b"x" * 1_000])).error is None:
        kept += 1

    assert type(append.error) is StoreFull
    assert 20 < kept < 50
    assert [len(store.records(b"")), len(store.journal())] == [kept, kept]
    assert store.trim(EVERYTHING, 1 << 40) > 0
    follower.append(records={b"%03d" % at: None for at in range(kept)}, journal_from=kept)
    assert follower.append(records={b"again": b"x" * 50_000}).error is None
    assert follower.append(Batch.of("t.0", [b"x" * 50_000])).error is None
    stores.close_all()


def test_retention_empties_a_full_map(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    rules = (Retention("t.0", max_bytes=100_000),)
    _, follower = stores.open(Settings(max_store_bytes=1 << 20, retention=rules, retention_interval_s=0.01))

    for _ in range(200):
        assert follower.append(Batch.of("t.0", [b"x" * 10_000])).error is None

    stores.close_all()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 12 MB."""
    need(os.getuid() == 0, "only root may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run([need_command("mount"), "-t", "tmpfs", "-o", "size=12m", "none", str(place)],
                             capture_output=True, text=True)
    need(mounted.returncode == 0, f"no disk can be mounted here: {mounted.stderr}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk):
    stores = Stores("lmdb", small_disk / "store")
    store, follower = stores.open()

    heals(store, follower)

    stores.close_all()


def test_a_disk_that_others_fill(small_disk):
    stores = Stores("lmdb", small_disk / "store")
    store, follower = stores.open()
    follower.publish("a", b"x" * 100_000)
    with pytest.raises(OSError), open(small_disk / "other", "wb", buffering=0) as other:
        while other.write(b"x" * 4096):
            pass

    heals(store, follower)

    stores.close(store)
    store, follower = stores.open()
    heals(store, follower)
    stores.close_all()


def test_a_limit_on_the_size_of_files(tmp_path):
    child = """
import resource, sys
from tests.fault.test_store_full import heals
from tests.store_tools import Stores
stores = Stores("lmdb", sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))
store, follower = stores.open()
heals(store, follower)
stores.close_all()
print("healed")
"""
    done = subprocess.run([sys.executable, "-c", child, str(tmp_path / "store")], capture_output=True, text=True,
                          timeout=100, env={**os.environ, "PYTHONPATH": os.getcwd()})

    assert done.stdout.strip() == "healed", done.stderr
