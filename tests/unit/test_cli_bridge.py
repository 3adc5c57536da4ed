"""``zstreampub bridge``: what is asked of it wrongly is told, with what to write instead."""

import pytest

IN, OUT = "PULL@tcp://127.0.0.1:5555", "PUSH@tcp://127.0.0.1:5555"


@pytest.mark.parametrize(("args", "told"), [
    ([], "either --from or --to"),
    (["--from", IN, "--to", OUT], "either --from or --to"),
    (["--from", IN], "takes one --topic"),
    (["--from", IN, "--topic", "a", "--topic", "b"], "takes one --topic"),
    (["--from", IN, "--topic", "a.*"], "--topic: "),
    (["--to", OUT, "--topic", "a..b"], "--topic: "),
    (["--from", "PUSH@tcp://127.0.0.1:5555", "--topic", "a"], "SUB, PULL, PAIR"),
    (["--to", "SUB@tcp://127.0.0.1:5555"], "PUB, PUSH, PAIR"),
    (["--from", "tcp://127.0.0.1:5555", "--topic", "a"], "KIND@ADDRESS"),
    (["--from", IN, "--topic", "a", "--state", "s"], "--state goes with --to"),
    (["--from", IN, "--topic", "a", "--consumer", "c"], "--consumer goes with --to"),
    (["--to", OUT, "--spool", "s"], "--spool goes with --from"),
    (["--from", IN, "--topic", "a", "--spool", "s", "--spool-bytes", "1023"], "--spool-bytes is at least 1024"),
    (["--to", OUT, "--subscribe", "s"], "--subscribe goes with --from"),
    (["--from", IN, "--topic", "a", "--subscribe", "s"], "--subscribe is for a SUB socket"),
    (["--to", OUT, "--state", "s", "--consumer", "c"], "leave --state out"),
])
def test_wrong_usage_is_told(run, args, told):
    code, out, err = run("bridge", *args)

    assert (code, out) == (2, "")
    assert told in err


def test_help_teaches(run, client):
    code, out, _ = run("bridge", "--help")

    assert code == 0
    assert "--from PULL@tcp://*:5555 --topic jobs --spool" in out
