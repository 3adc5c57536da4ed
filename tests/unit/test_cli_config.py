"""Where a setting comes from: the command line, the environment, the file, the default, in this order."""

import sys
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from zstreampub.cli import main
from zstreampub.cli.nouns import leaves
from zstreampub.settings import Retention, Settings
from zstreampub.version import __version__


@pytest.fixture
def served(monkeypatch):
    """Run ``zstreampub serve`` with a server that only notes how it was called."""
    calls = []
    server = ModuleType("zstreampub.serving")
    server.serve = lambda *args, **kwargs: calls.append(args[:3])       # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zstreampub.serving", server)
    monkeypatch.setattr("zstreampub.cli.serve.configure_logging", lambda level: None)

    def run(*args, env=None):
        calls.clear()
        result = CliRunner().invoke(main, ["serve", *map(str, args)], env=env)
        return calls[0] if calls else result

    return run


def file_with(tmp_path, content):
    path = tmp_path / "config.toml"
    path.write_text(content)
    return path


def test_without_anything_the_defaults_hold(served):
    bind, store, settings = served()

    assert (bind, store, settings) == (["tcp://127.0.0.1:4242"], "lmdb:zstreampub-data", Settings())


def test_every_setting_is_a_flag_with_units(served):
    _, _, settings = served("--max-message-bytes", "2M", "--keepalive-s", "1m", "--max-topics", 5,
                            "--durability", "relaxed", "--retain", "a.>:age=1d", "--retain", ">:bytes=1G")

    assert settings == Settings(max_message_bytes=2 << 20, keepalive_s=60.0, max_topics=5, durability="relaxed",
                                retention=(Retention("a.>", 86_400.0), Retention(">", None, 1 << 30)))


@pytest.mark.parametrize("store", ["redis:x", "s/log"])
def test_a_store_of_no_kind_is_wrong_usage_wherever_it_is_written(served, tmp_path, store):
    file = file_with(tmp_path, f'store = "{store}"')

    for result in served("--store", store), served(env={"ZSTREAMPUB_STORE": store}), served("--config", file):
        assert result.exit_code == 2 and "names no store" in result.output


@pytest.mark.parametrize("name, hint", [
    ("ZSTREAMPUB_ADRESS", "did you mean ZSTREAMPUB_ADDRESS?"),
    ("ZSTREAMPUB_XYZ", "each command's --help lists them"),
    ("ZSTREAMPUB_MAX_MESAGE_BYTES", "did you mean ZSTREAMPUB_MAX_MESSAGE_BYTES?"),
])
def test_a_misspelt_variable_is_warned_about_with_the_nearest_name(monkeypatch, name, hint):
    result = CliRunner().invoke(main, ["topics", "--help"], env={name: "1", "ZSTREAMPUB_TRACEBACK": ""})

    assert result.exit_code == 0
    assert f"no command knows the environment variable {name}; {hint}" in result.output
    assert result.output.count("warning") == 1


def test_every_setting_is_an_environment_variable(served):
    env = {"ZSTREAMPUB_BIND": "tcp://127.0.0.1:1 tcp://127.0.0.1:2", "ZSTREAMPUB_STORE": "memory:",
           "ZSTREAMPUB_MAX_MESSAGE_BYTES": "3K", "ZSTREAMPUB_RETAIN": "a:age=1 b:age=2"}

    bind, store, settings = served(env=env)

    assert (bind, store) == (["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"], "memory:")
    assert settings == Settings(max_message_bytes=3072, retention=(Retention("a", 1.0), Retention("b", 2.0)))


def test_every_setting_is_a_key_of_the_file_and_a_table_comes_before_the_top(served, tmp_path):
    path = file_with(tmp_path, """
        store = "memory:"
        bind = "tcp://127.0.0.1:1"
        max_topics = 7
        [serve]
        bind = ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3"]
        max_message_bytes = "1K"
        keepalive_s = 2
        retain = [">:messages=5"]
        [subscribe]
        policy = "drop"
    """)

    bind, store, settings = served("--config", path)

    assert (bind, store) == (["tcp://127.0.0.1:2", "tcp://127.0.0.1:3"], "memory:")
    assert settings == Settings(max_topics=7, max_message_bytes=1024, keepalive_s=2.0,
                                retention=(Retention(">", None, None, 5),))


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(served, tmp_path):
    path = file_with(tmp_path, "max_topics = 1\nmax_patterns = 1\nmax_producers = 1")
    env = {"ZSTREAMPUB_CONFIG": str(path), "ZSTREAMPUB_MAX_TOPICS": "2", "ZSTREAMPUB_MAX_PATTERNS": "2"}

    _, _, settings = served("--max-topics", 3, env=env)

    assert (settings.max_topics, settings.max_patterns, settings.max_producers) == (3, 2, 1)


@pytest.mark.parametrize("content, reason", [
    ("max_topicz = 5", "there is no setting 'max_topicz'; did you mean 'max_topics'?"),
    ("[serve]\nstart = 'new'", "[serve] there is no setting 'start'"),
    ("[subscribe]\nmax_topics = 5", "[subscribe] there is no setting 'max_topics'"),
    ("[server]\nbind = 'x'", "there is no setting 'server'; did you mean 'serve'?"),
    ("config = 'other.toml'", "there is no setting 'config'"),
    ("serve = 5", "write [serve] above its settings"),
    ("consumers = 5", "write [consumers] above its settings"),
    ("[consumers]\ncreate = 5", "write [consumers.create] above its settings"),
    ("[consumers]\nmode = 'shared'", "[consumers] there is no setting 'mode'"),
    ("[consumers.create]\nmodes = 'shared'", "[consumers.create] there is no setting 'modes'; did you mean 'mode'?"),
    ("max_topics = [1, 2]", "max_topics takes one value"),
    ("max_topics = 'many'", "'many' is not a valid integer"),
    ("max_message_bytes = '5 apples'", "'5 apples' is no size"),
    ("durability = 'none'", "'none' is not one of 'sync', 'relaxed'"),
    ("retain = ['>:size=5']", "'size=5' is no limit"),
    ("max_topics = ", "is no TOML"),
])
def test_a_wrong_file_is_an_error_with_exit_code_2_and_its_reason_in_one_line(served, tmp_path, content, reason):
    result = served("--config", file_with(tmp_path, content))

    assert result.exit_code == 2
    assert reason in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("args, reason", [
    (["--config", "/nowhere/zstreampub.toml"], "No such file"),
    (["--max-topics", "0"], "max_topics is at least 1"),
    (["--max-message-bytes", "1T"], "at most 67108864"),
    (["--keepalive-s", "soon"], "'soon' is no duration"),
    (["--retain", "nonsense"], "PATTERN:LIMIT=VALUE"),
    (["--policy", "nonsense"], "policy is one of spill, drop,"),
    (["--bind", "127.0.0.1:4242"], "write tcp://HOST:PORT"),
    (["--bind", "tcp://127.0.0.1"], "write tcp://HOST:PORT"),
    (["--bind", "tcp://127.0.0.1:99999"], "up to 65535"),
    (["--store"], "requires an argument"),
    (["--colour"], "No such option"),
    (["surplus"], "unexpected extra argument"),
])
def test_wrong_usage_is_exit_code_2_with_its_reason_in_one_line(served, args, reason):
    result = served(*args)

    assert result.exit_code == 2
    assert reason in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", sorted({*main.commands, *(" ".join(place) for place, _ in leaves(main))}))
def test_every_command_has_a_help_with_an_example_and_its_variables(command):
    result = CliRunner().invoke(main, [*command.split(), "--help"])

    assert result.exit_code == 0
    assert "Example:\n  " in result.output and f"zstreampub {command}" in result.output
    assert "ZSTREAMPUB_CONFIG" in result.output


def test_no_two_commands_mean_different_things_by_one_variable():
    kinds = {}

    for _, command in leaves(main):
        for param in command.params:
            if isinstance(param, click.Option):
                kinds.setdefault(param.name, set()).add((param.is_flag, param.multiple, param.type.name))

    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_the_version_and_the_exit_codes_are_told():
    assert CliRunner().invoke(main, ["--version"]).output == f"zstreampub {__version__}\n"
    assert "130  ctrl-C" in CliRunner().invoke(main, ["--help"]).output


@pytest.mark.parametrize("arguments, hint", [
    (["--workers", "1", "--store", "memory:"], "lmdb:DIRECTORY"),
    (["--workers", "2", "--worker-bind", "tcp://127.0.0.1:1"], "2 workers and 1 endpoints"),
    (["--workers", "1", "--bind", "tcp://127.0.0.1:65535"], "no port for worker 1"),
    (["--workers", "65"], "0<=x<=64"),
])
def test_workers_that_cannot_be_are_wrong_usage(tmp_path, monkeypatch, arguments, hint):
    monkeypatch.setattr("zstreampub.serving.tune_process", lambda: None)     # this one has tests to run

    result = CliRunner().invoke(main, ["serve", "--store", f"lmdb:{tmp_path / 'store'}", *arguments])

    assert result.exit_code == 2
    assert hint in result.output
