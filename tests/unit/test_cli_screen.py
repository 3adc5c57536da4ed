"""Tables for people: what does not fit the terminal is shown field by field."""

from zstreampub.cli.screen import show_pairs, show_rows

ROW = {"id": "0123456789abcdef", "name": "worker", "patterns": ["orders.>"], "policy": "drop", "lag": 12_345,
       "dropped": 0}
COLUMNS = ["id", "name", "patterns", "policy", "lag"]


def shown(monkeypatch, capfd, width, rows):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("os.isatty", lambda _: True)
    show_rows(rows, COLUMNS, False, "nothing")
    return capfd.readouterr().out.splitlines()


def test_rows_that_fit_are_a_table_without_what_is_0_everywhere(monkeypatch, capfd):
    lines = shown(monkeypatch, capfd, 80, [ROW, ROW])

    assert lines[0].split() == COLUMNS
    assert lines[1].split() == ["0123456789abcdef", "worker", "orders.>", "drop", "12,345"]
    assert len(lines) == 3


def test_what_is_not_0_follows_the_columns(monkeypatch, capfd):
    lines = shown(monkeypatch, capfd, 80, [ROW, {**ROW, "dropped": 7}])

    assert lines[0].split() == [*COLUMNS, "dropped"]


def test_rows_that_do_not_fit_are_shown_field_by_field(monkeypatch, capfd):
    lines = shown(monkeypatch, capfd, 40, [ROW, ROW])

    assert [line.split() for line in lines[:6]] == [
        ["id", "0123456789abcdef"], ["name", "worker"], ["patterns", "orders.>"], ["policy", "drop"],
        ["lag", "12,345"], []]


def test_offsets_are_shown_as_they_are_typed(monkeypatch, capfd):
    monkeypatch.setattr("os.isatty", lambda _: True)

    show_rows([{"offset": 12_345, "of": 12_340, "bytes": 12_345}], ["offset", "of", "bytes"], False, "nothing")
    show_pairs([("oldest_unacked.offset", 12_345), ("lag.messages", 12_345)], "what", "nothing")

    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert lines[1] == ["12345", "12340", "12,345"]
    assert lines[3:] == [["oldest_unacked.offset", "12345"], ["lag.messages", "12,345"]]
