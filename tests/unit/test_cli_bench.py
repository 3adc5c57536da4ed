"""What ``zstreampub bench`` is made of: the check of every message, the delays and their histogram, the beat."""

from itertools import pairwise
from time import perf_counter

import pytest

from zstreampub.cli.bench import facts, lines
from zstreampub.cli.benches.delays import Delays, bars, duration
from zstreampub.cli.benches.ledger import LEAST_BYTES, Ledger, payloads
from zstreampub.cli.benches.loads import Result
from zstreampub.cli.benches.pace import Beat


def delays_of(*microseconds):
    delays = Delays()
    for us in microseconds:
        delays.add(us / 1e6)
    return delays


# --- ledger ------------------------------------------------------------------------

def test_a_ledger_finds_no_fault_in_messages_of_several_publishers_in_the_order_of_each():
    ledger = Ledger()

    ledger.take(payloads(0, 0, 2, 100) + payloads(1, 0, 3, 100))
    ledger.take(payloads(1, 3, 1, 100) + payloads(0, 2, 1, 100))

    assert ledger.close(7) == []


@pytest.mark.parametrize("came, fault", [
    ([0, 2], "message 2 came where 1 belongs"),
    ([0, 1, 1], "message 1 came where 2 belongs"),
    ([1, 0], "message 1 came where 0 belongs"),
])
def test_a_ledger_tells_what_is_lost_repeated_or_out_of_order(came, fault):
    ledger = Ledger()

    for number in came:
        ledger.take(payloads(0, number, 1, LEAST_BYTES))

    assert fault in ledger.close(len(came))[0]


def test_a_ledger_tells_that_the_end_is_missing():
    ledger = Ledger()

    ledger.take(payloads(0, 0, 2, 100))

    assert ledger.close(3) == ["2 messages came, 3 were published"]


@pytest.mark.parametrize("payload", [b"short", {"a": "map"}, None])
def test_a_ledger_tells_of_a_message_that_is_none_of_the_bench(payload):
    ledger = Ledger()

    ledger.take([payload])

    assert "none of this bench" in ledger.faults[0]


def test_a_ledger_tells_of_a_gap_and_keeps_only_the_first_faults():
    ledger = Ledger()

    for _ in range(100):
        ledger.gap({"first": 3, "next": 9, "why": "retention"})

    assert ledger.faults == ["messages in [3, 9) did not come: retention"] * 5


# --- delays ------------------------------------------------------------------------

def test_delays_are_told_exactly():
    delays = delays_of(*range(1, 1001))

    assert delays.summary() == {"p50_us": 501, "p90_us": 901, "p99_us": 991, "p999_us": 1000, "max_us": 1000}


@pytest.mark.parametrize("microseconds", [[7], [0, 0], [1, 1_000_000], [999, 1000, 1001], [0.2, 90_000_000]])
def test_a_histogram_has_every_delay_in_one_of_a_few_buckets_without_holes(microseconds):
    histogram = delays_of(*microseconds).histogram()

    assert sum(count for _, _, count in histogram) == len(microseconds)
    assert len(histogram) <= 26
    assert all(one[1] == next[0] for one, next in pairwise(histogram))
    assert histogram[-1][1] >= max(microseconds)


def test_no_delays_have_no_figures_and_no_histogram():
    assert (Delays().summary(), Delays().histogram()) == ({}, [])


def test_the_longest_bar_fills_the_width_and_a_rare_delay_still_shows():
    drawn = list(bars([(100, 200, 1000), (200, 400, 0), (400, 800, 1)], 60))

    assert max(map(len, drawn)) == 60
    assert [line.strip()[-1] for line in drawn] == ["█", "0", "▏"]


@pytest.mark.parametrize("us, text", [(3.21, "3.21 us"), (999, "999 us"), (1500, "1.5 ms"), (2_500_000, "2.5 s")])
def test_a_duration_is_told_in_the_unit_that_fits(us, text):
    assert duration(us) == text


# --- beat --------------------------------------------------------------------------

def test_a_beat_gives_each_message_once_and_none_before_it_is_due():
    beat = Beat(rate=2000, count=50)
    beat.start()

    early = []
    while beat.take():
        early.append(perf_counter() < beat.due(beat.taken - 1))

    assert beat.taken == 50
    assert not any(early)
    beat.stop()


@pytest.mark.parametrize("rate", [0.01, 1e9])
def test_a_beat_can_be_stopped_while_it_waits_for_its_time_or_for_room(rate):
    beat = Beat(rate, count=1_000_000)
    beat.start()
    beat.take()

    beat.stop()

    assert 0 < beat.taken < 1_000_000


# --- what is shown -------------------------------------------------------------------

def test_a_result_is_shown_with_its_rate_its_percentiles_and_a_histogram():
    result = Result("publish", "messages", 10_000, 2.0, delays_of(100, 200, 200), [])

    shown = list(lines(result, 100))

    assert shown[0] == "publish: 5,000 messages/s, 0.5 MB/s (10,000 in 2.00 s), every message checked"
    assert shown[1].startswith("  p50 200 us, p90 200 us")
    assert "█" in shown[2]


def test_a_result_with_faults_says_so_and_json_has_them():
    result = Result("replay", "messages", 9, 1.0, None, ["9 messages came, 10 were published"])

    assert "1 FAULT" in next(lines(result, 100))
    assert facts(result, 100) == {"load": "replay", "unit": "messages/s", "rate": 9.0, "count": 9, "seconds": 1.0,
                                  "payload_bytes": 100, "bytes_per_s": 900,
                                  "faults": ["9 messages came, 10 were published"]}
