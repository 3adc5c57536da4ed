"""How the profile of the benchmarks sorts what it samples."""

import os

import pytest

from tests.benchmarks.samples import kind_of, stage_of, threads_of


@pytest.mark.parametrize("stack, stage", [
    (["Lane._receive (zstreampub/lane.py:73)", "Batch.check (zstreampub/message.py:129)",
      "checksum (zstreampub/columns.py:98)"], "checksum"),
    (["Stream.pump (zstreampub/channels.py:169)", "Outbound.send (zstreampub/outbound.py:44)",
      "Link.send (zstreampub/zmtp/link.py:130)", "Link._put (zstreampub/zmtp/link.py:245)"], "send"),
    (["Drain._run (zstreampub/zmtp/link.py:86)", "Link.read (zstreampub/zmtp/link.py:205)"], "receive, unpack"),
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
