"""What the benchmarks conclude from what they measure, and that their checks find a lost message."""

import pytest

from tests.benchmarks.payloads import BATCH, WRAP, Dues, OutOfOrder, Runs, Singles, batch_of, due_payload, payload
from tests.benchmarks.peers import spread
from tests.benchmarks.rst import tables
from tests.benchmarks.workload import FSYNC, NONE, Case, Ratio, Workload, bound


def take_batches(sink, turns):
    for turn in turns:
        sink.take(batch_of(0, turn))


def test_batches_of_any_length_are_checked_over_the_end_of_the_cycle():
    sink = Runs()
    whole = [one for turn in range(2 * WRAP // BATCH) for one in batch_of(0, turn)]

    for first in range(0, len(whole), 1700):
        sink.take(whole[first:first + 1700])

    assert sink.messages == 2 * WRAP


@pytest.mark.parametrize("turns", [[1], [0, 2], [0, 0], [0, 1, 0]])
def test_a_batch_that_is_not_the_next_one_is_found(turns):
    with pytest.raises(OutOfOrder):
        take_batches(Runs(), turns)


def test_a_message_lost_from_those_that_came_one_by_one_is_found():
    sink, messages = Runs(), batch_of(0, 0) + batch_of(0, 1)
    del messages[500]

    with pytest.raises(OutOfOrder):
        for one in messages:
            sink.take_one(one)


def test_singles_are_checked_in_the_order_of_each_caller():
    sink = Singles()
    sink.take([payload(0, 0, 0), payload(0, 1, 0), payload(0, 0, 1)])

    with pytest.raises(OutOfOrder, match="caller 1: 2 came where 1 belongs"):
        sink.take_one(payload(0, 1, 2))


def test_a_message_of_a_steady_rate_that_is_lost_is_found():
    sink = Dues()
    sink.take_one(due_payload(0, 0.0))

    with pytest.raises(OutOfOrder):
        sink.take_one(due_payload(2, 0.0))


def test_a_ratio_over_two_cases_is_over_what_they_allow_one_after_the_other():
    figures = {"ours": {"rate": 50.0}, "wire": {"rate": 100.0}, "disk": {"rate": 100.0}}

    assert Ratio("ours", ("wire", "disk")).within(figures) == 1.0
    assert Ratio("ours", "wire").within(figures) == 0.5
    assert Ratio("ours", "wire", minus=True).within(figures) == -50.0


@pytest.mark.parametrize("server, publisher, subscriber, everything, durability, found", [
    (0.95, 0.3, 0.1, 1.35, FSYNC, "server"),
    (0.3, 0.9, 0.1, 1.3, NONE, "publisher"),
    (0.4, 0.1, 0.9, 1.5, NONE, "subscriber"),
    (0.5, 0.5, 0.0, 1.0, FSYNC, "server and client"),
    (0.1, 0.2, 0.0, 0.3, FSYNC, "disk"),
    (0.1, 0.2, 0.0, 0.3, NONE, "waiting for each other"),
    (0.9, 0.5, 0.5, 3.9, FSYNC, "all cores (server most)"),
])
def test_who_held_a_run_up_is_told_from_processor_time(server, publisher, subscriber, everything, durability, found):
    figures = {"server_load": server, "publisher_load": publisher, "subscriber_load": subscriber,
               "all_load": everything}

    assert bound(figures, durability, cores=4) == found


@pytest.mark.parametrize("readers, shares", [(1, [1]), (4, [2, 1, 1]), (16, [6, 5, 5])])
def test_readers_are_spread_over_at_most_three_processes(readers, shares):
    assert spread(readers) == shares


def test_the_tables_of_the_documents_say_which_goals_are_reached_and_leave_out_a_peer_that_was_not_there():
    workload = Workload("some", "Some", "messages/s", [Case("ours", FSYNC, None), Case("theirs", FSYNC, None),
                                                       Case("gone", FSYNC, None)],
                        [Ratio("ours", "theirs", "2"), Ratio("ours", "theirs", "< 1", "p99_us"),
                         Ratio("ours", "theirs", "1.5"), Ratio("ours", "gone")])
    figures = {"p50_us": 1, "p99_us": 2, "server_us": 1.0, "other_load": 0.1, "bound": "disk"}
    rounds = [{"ours": {"rate": rate, **figures}, "theirs": {"rate": 100.0, **figures}} for rate in (150, 250, 300)]

    lines = list(tables({"some": workload}, {"some": rounds}, {"system": "s", "python": "p", "fdatasync_us": 1.0,
                                                               "time": "t"}))

    assert [line.split()[-3:] for line in lines if "theirs" in line and line.startswith("ours")] == [
        ["2", "in", "doubt"], ["<", "1", "missed"], ["3.00", "1.5", "reached"]]
    assert any(line.split()[:5] == ["ours", "theirs", "2.50", "1.50", "3.00"] for line in lines)
    assert not any("gone" in line for line in lines)
