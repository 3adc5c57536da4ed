"""A broker used from native threads, in a plain and in a monkey-patched process."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
import gevent
from zstreampub import Broker

broker = Broker.open(sys.argv[2])
bridge = broker.for_threads()
pool = gevent.get_hub().threadpool

def publish(worker):
    return [bridge.publish(f"t.{worker}", number) for number in range(50)]

def subscribe():
    with bridge.subscribe("t.*", start="earliest") as subscription:
        return [(m.topic, m.payload) for _, m in zip(range(150), subscription)]

with gevent.Timeout(30):
    reader = pool.spawn(subscribe)
    workers = [pool.spawn(publish, worker) for worker in range(3)]
    offsets = sorted(sum((worker.get() for worker in workers), []))
    seen = reader.get()
assert offsets == list(range(150)), offsets
for worker in range(3):
    assert [n for topic, n in seen if topic == f"t.{worker}"] == list(range(50))
try:
    bridge.publish("t", 1)
except RuntimeError as error:
    print("refused on the hub:", error)
broker.close()
print("done")
"""


@pytest.mark.parametrize("store", ["memory:", "lmdb:{tmp_path}/log"])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_native_threads_publish_and_subscribe_through_the_bridge(patched, store, tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, patched, store.format(tmp_path=tmp_path)],
                          capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "refused on the hub" in done.stdout and done.stdout.endswith("done\n")


CONSUMERS = """
import sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
import gevent
from zstreampub import Broker

broker = Broker.open(sys.argv[2])
bridge = broker.for_threads()
pool = gevent.get_hub().threadpool

def work(name):
    done = []
    with bridge.subscribe("jobs", consumer="workers", member=name, max_in_flight=5) as member:
        for delivery in member:
            if delivery.payload == "stop":
                delivery.ack()
                return done
            if delivery.delivery == 1 and delivery.payload % 5 == 0:
                delivery.nack()
                continue
            delivery.extend(60)
            delivery.ack()
            done.append(delivery.payload)

def fetch():
    found = bridge.consumers.fetch("late", 3)
    found[0].ack()
    found[1].reject("bad")
    found[2].nack(delay_s=1000)
    return [one.payload for one in found]

with gevent.Timeout(30):
    for name in ("late", "workers"):
        assert pool.spawn(bridge.consumers.create, name, ["jobs"]).get()["consumer"] == name
    workers = [pool.spawn(work, f"w{n}") for n in range(3)]
    for number in range(60):
        broker.publish("jobs", number)
    gevent.sleep(0)
    while broker.consumers.describe("workers")["acked"] < 60:
        gevent.sleep(0.01)
    for worker in workers:
        broker.publish("jobs", "stop")
    done = sum((worker.get() for worker in workers), [])
    assert sorted(done) == list(range(60)), done
    assert pool.spawn(fetch).get() == [0, 1, 2]
    about = broker.consumers.describe("late")
    assert (about["acked"], about["dead"], about["waiting"]) == (1, 1, 1), about
broker.close()
print("done")
"""


@pytest.mark.parametrize("store", ["memory:", "lmdb:{tmp_path}/log"])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_native_threads_are_members_of_a_consumer_and_fetch_from_it(patched, store, tmp_path):
    done = subprocess.run([sys.executable, "-c", CONSUMERS, patched, store.format(tmp_path=tmp_path)],
                          capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
