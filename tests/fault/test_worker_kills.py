"""Workers and their writer are killed again and again while messages flow: nobody misses or repeats any."""

import os
import random
import signal

import gevent
import pytest

from tests.processes import DEADLINE_S, ServerProcess, wait_until
from tests.worker_tools import Crowd, is_there, workers_of

ROUNDS = 25
SUBSCRIBERS = 8


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_subscribers_get_everything_once_in_order_whoever_is_killed(tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    choose = random.Random(seed)
    server = ServerProcess(tmp_path, workers=2)
    crowd = Crowd(server.endpoint, SUBSCRIBERS)
    seen = set()
    try:
        for _ in range(ROUNDS):
            publishing = gevent.spawn(crowd.publish, 100)
            gevent.sleep(choose.uniform(0, 0.3))
            pids = [one["pid"] for one in workers_of(server)]
            seen.update(pids)
            victim = choose.choice(["worker", "workers", "writer", "drained"])
            if victim.startswith("worker"):
                for pid in pids if victim == "workers" else pids[:1]:
                    os.kill(pid, signal.SIGKILL)
            else:
                server.terminate(signal.SIGKILL if victim == "writer" else signal.SIGTERM)
                server.wait()
                server = server.again()
            publishing.get(timeout=DEADLINE_S)

        crowd.finish()
        seen.update(one["pid"] for one in workers_of(server))
    finally:
        crowd.close()
        server.kill()
    wait_until(lambda: not any(map(is_there, seen)), "the end of all workers")
