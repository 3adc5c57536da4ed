"""What the benchmarks conclude from what they measure, and that their checks find a lost message."""

import os

import pytest

from tests.benchmarks.payloads import BATCH, WRAP, Dues, OutOfOrder, Runs, Singles, batch_of, due_payload, payload
from tests.benchmarks.peers import spread
from tests.benchmarks.rst import tables
from tests.benchmarks.samples import kind_of, stage_of, threads_of
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


@pytest.mark.parametrize("stack, stage", [
    (["Lane._receive (zstreampub/lane.py:73)", "Batch.check (zstreampub/message.py:129)",
      "checksum (zstreampub/columns.py:98)"], "checksum"),
    (["Stream.pump (zstreampub/channels.py:169)", "Lane.send (zstreampub/lane.py:194)",
      "Transport.send (zstreampub/transport.py:51)", "Socket.send (zmq/sugar/socket.py:638)"], "send"),
    (["Transport._drain (zstreampub/transport.py:136)", "Socket.recv (zmq/sugar/socket.py:700)"], "receive, unpack"),
    (["Subscription.batches (zstreampub/client/subscription.py:93)", "Batch.payloads (zstreampub/message.py:199)",
      "unpack_column (zstreampub/payload.py:90)"], "decode"),
    (["Hub.run (gevent/hub.py:631)"], "switches, timers, the rest"),
])
def test_a_python_stack_is_in_the_stage_of_its_innermost_frame_that_says_one(stack, stage):
    assert stage_of(stack) == stage


@pytest.mark.parametrize("frames, kind", [
    (["clear_page_erms+0x10 ([kernel.kallsyms])", "asm_exc_page_fault+0x2 ([kernel.kallsyms])",
      "__memmove_avx512+0x9 (/lib/libc.so.6)"], "page faults"),
    (["_copy_from_iter+0x1 ([kernel.kallsyms])", "__x64_sys_sendto+0x2 ([kernel.kallsyms])"], "system call sendto"),
    (["__memmove_avx512+0x9 (/lib/libc.so.6)"], "copying (memmove)"),
    (["crc32_z+0x9 (/lib/libz.so.1.2.13)"], "libz"),
    (["_PyEval_EvalFrameDefault+0x9 (/lib/libpython3.11.so.1.0)"], "libpython3"),
])
def test_a_c_stack_is_of_the_kind_that_its_frames_say(frames, kind):
    assert kind_of(frames) == kind


def test_the_threads_of_a_process_are_told_with_what_they_used():
    assert any(used > 0 for _, used, _ in threads_of(os.getpid()).values())
