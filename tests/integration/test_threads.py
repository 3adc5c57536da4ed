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
