"""Lines of files and pipes, plain and gzip."""

import gzip
import os
import random

import gevent
import pytest

from zstreampub.cli.source import Source


def lines_of(path):
    source = Source(str(path))
    try:
        return [line for lines in source.lines() for line in lines]
    finally:
        source.close()


@pytest.mark.parametrize("content, lines", [
    (b"", []),
    (b"a", [b"a"]),
    (b"a\nb\n", [b"a", b"b"]),
    (b"a\r\n\nb", [b"a", b"", b"b"]),
    (b"\n", [b""]),
    (b"\x1f", [b"\x1f"]),
])
def test_lines_come_without_their_ends_and_the_last_needs_none(tmp_path, content, lines):
    path = tmp_path / "file"
    path.write_bytes(content)

    assert lines_of(path) == lines


def test_gzip_is_recognised_by_its_content_whatever_the_name(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(gzip.compress(b"a\nb"))

    assert lines_of(path) == [b"a", b"b"]


def test_a_gzip_of_many_members_and_many_pieces_is_read_to_its_end(tmp_path):
    wanted = [random.Random(n).randbytes(40).hex().encode() for n in range(40_000)]
    path = tmp_path / "file"
    half = len(wanted) // 2
    path.write_bytes(gzip.compress(b"\n".join(wanted[:half]) + b"\n") + gzip.compress(b"\n".join(wanted[half:])))

    assert lines_of(path) == wanted


def test_gzip_that_inflates_a_thousandfold_is_read_in_pieces(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"x" * 999 + b"\n") + gzip.compress((b"y" * 999 + b"\n") * 50_000))

    lines = lines_of(path)

    assert len(lines) == 50_001 and set(map(len, lines)) == {999}


@pytest.mark.parametrize("damage, reason", [
    (lambda packed: packed[:-9], "ends too early"),
    (lambda packed: packed[:20] + b"\xff\xff\xff" + packed[23:], "broken gzip"),
    (lambda packed: packed + b"trailing text", "broken gzip"),
])
def test_damaged_gzip_is_told_and_not_taken_for_the_end(tmp_path, damage, reason):
    path = tmp_path / "file"
    path.write_bytes(damage(gzip.compress(b"".join(b"%d\n" % n for n in range(1000)))))

    with pytest.raises(ValueError, match=reason):
        lines_of(path)


def test_a_line_of_a_pipe_comes_when_it_was_written_and_others_run_meanwhile(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)      # a reader and a writer in one, so that no open waits
    source = Source(str(path))
    came = source.lines()

    os.write(writer, b"one\nhal")
    first = next(came)
    second = gevent.spawn(next, came)
    gevent.idle()
    os.write(writer, b"f\n")

    assert first == [b"one"]
    assert second.get(timeout=5) == [b"half"]
    source.close()
    os.close(writer)


def test_how_much_was_taken_can_be_shown_beside_the_size(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a\n" * 100)
    source = Source(str(path))

    list(source.lines())

    assert (source.taken, source.size) == (200, 200)
    source.close()


def test_a_line_of_many_pieces_is_joined_once(tmp_path, monkeypatch):
    monkeypatch.setattr("zstreampub.cli.source._PIECE", 3)
    path = tmp_path / "file"
    path.write_bytes(b"ab\r\n" + b"x" * 100 + b"\nc\n\nlast")

    assert lines_of(path) == [b"ab", b"x" * 100, b"c", b"", b"last"]


@pytest.mark.parametrize("content, lines", [
    (b"a\n" + b"x" * 9 + b"\nb\n", [b"a", None, b"b"]),
    (b"a\n" + b"x" * 100, [b"a", None]),
    (b"x" * 8 + b"\n" + b"y" * 9 + b"\n" + b"z" * 8, [b"x" * 8, None, b"z" * 8]),
    (b"x" * 9 + b"\n\n" + b"y" * 50 + b"\n", [None, b"", None]),
])
def test_a_line_over_the_limit_is_passed_over_and_the_next_one_comes(tmp_path, monkeypatch, content, lines):
    monkeypatch.setattr("zstreampub.cli.source.MAX_LINE_BYTES", 8)
    monkeypatch.setattr("zstreampub.cli.source._PIECE", 3)
    path = tmp_path / "file"
    path.write_bytes(content)

    assert lines_of(path) == lines


def test_an_endless_line_is_told_before_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("zstreampub.cli.source.MAX_LINE_BYTES", 8)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    source = Source(str(path))

    os.write(writer, b"x" * 9)

    assert next(source.lines()) == [None]
    source.close()
    os.close(writer)
