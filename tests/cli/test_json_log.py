"""Tests of `--log-format json`: each line on stderr is one JSON object."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.test_reflected_secrets import FORMS, PASSWORD, attack, gained, said
from tests.cli.test_terminal import Terminal
from tests.serve.process import serving as serving_process
from tests.support import images, layouts
from tests.support.command import Json, Mirror
from tests.support.registry import EmbeddedRegistry, Fault, Status, serving

OLD, NEW = (images.image("linux/amd64", images.layer(seed, 300)) for seed in (1, 2))
JSON = ("--log-format", "json")


@pytest.fixture
def shop() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as registry:
        OLD.publish(registry, "a", "v1")
        yield registry


def parsed(text: str) -> list[Json]:
    """Return the objects of a log. Each has a time in UTC, a level and a message."""
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert [*line][:3] == ["time", "level", "message"]
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    return found


def test_warnings_and_the_summary_of_a_pull_are_objects(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    name = f"{shop.host}/a:v1"
    mirror("pull", name)
    NEW.publish(shop, "a", "v1")
    result = mirror("pull", name, *JSON)
    assert result.out == f"{name}@{NEW.root}\n"
    warning, summary = parsed(result.err)
    assert (warning["level"], summary["level"]) == ("warning", "summary")
    assert f"{name} now stands for {NEW.root}" in warning["message"]
    assert summary["message"].startswith("pulled 1 image")


def test_info_lines_are_objects(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.fault(Fault(method="GET", path="/manifests/v1", times=1, action=Status(503)))
    levels = [line["level"] for line in parsed(mirror("pull", f"{shop.host}/a:v1", "-v", *JSON).err)]
    assert "info" in levels


@pytest.mark.parametrize("flags", [JSON, ("--log-format=json",)])
def test_failure_has_its_hint_and_codes_in_one_object(mirror: Mirror, flags: tuple[str, ...]) -> None:
    (error,) = parsed(mirror("verify", "nowhere", *flags, code=2).err)
    assert {key: value for key, value in error.items() if key != "time"} == {
        "level": "error",
        "message": "There is no directory 'nowhere'.",
        "hint": "Choose a layout, an archive, or docker://IMAGE.",
        "code": "not-found",
        "exitCode": 2,
    }


@pytest.mark.parametrize("arguments", ["pull", "pull --what", "nothing", "ls a b", "verify --level none"])
def test_wrong_usage_is_an_object(mirror: Mirror, arguments: str) -> None:
    (error,) = parsed(mirror(*arguments.split(), *JSON, code=2).err)
    assert (error["level"], error["code"], error["exitCode"]) == ("error", "usage-error", 2)
    assert parsed(mirror(*arguments.split(), code=2, env={"MIRROR_LOG_FORMAT": "json"}).err)[0]["code"] == "usage-error"


def test_flag_takes_precedence_over_the_variable(mirror: Mirror) -> None:
    result = mirror("verify", "nowhere", "--log-format", "text", code=2, env={"MIRROR_LOG_FORMAT": "json"})
    assert result.err.startswith("error: ")
    assert mirror("verify", "--", "--log-format", "json", code=2).err.startswith("error: ")


def test_settings_file_sets_the_format(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text('log_format = "json"\ninsecure = ["a"]\n')
    assert [line["level"] for line in parsed(mirror("verify", "nowhere", code=2).err)] == ["warning", "note", "error"]
    assert mirror("verify", "nowhere", "--log-format", "text", code=2).err.count("error: ") == 1
    (tmp_path / "mirror.toml").write_text('log_format = "xml"\n')
    assert '"text" or "json"' in mirror("verify", "nowhere", code=2).err


@pytest.mark.parametrize(
    "command",
    [
        "pull",
        "verify",
        "push",
        "login",
        "logout",
        "export",
        "import",
        "copy",
        "serve",
        "ls",
        "inspect",
        "record",
        "prune",
        "tags",
        "rm",
        "completion",
    ],
)
def test_every_command_has_the_option(mirror: Mirror, command: str) -> None:
    assert "--log-format" in mirror(command, "--help").out


@pytest.mark.parametrize("form", ["plain", "base64", "JSON"])
def test_secrets_are_redacted(mirror: Mirror, form: str) -> None:
    result = attack(mirror, lambda secret: said(FORMS[form](secret)), "-v", *JSON)
    messages = [line["message"] for line in parsed(result.err)]
    assert any("DENIED" in message for message in messages)
    assert gained(result, PASSWORD) == set()
    assert PASSWORD not in "".join(messages)


@pytest.mark.slow
def test_requests_to_the_server_are_objects(mirror: Mirror, tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", OLD, name="docker.io/library/a:v1")
    command = mirror.command("serve", "--listen", "127.0.0.1:0", *JSON)
    with serving_process(command, tmp_path, mirror.env) as server:
        request = urllib.request.Request(
            f"http://{server.host}/v2/library/a/manifests/v1", headers={"User-Agent": "ä\u0085"}
        )
        size = len(urllib.request.urlopen(request).read())
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{server.host}/v2/none/manifests/v1?a=%1b")
        server.end(signal.SIGTERM)
    summary, first, second = parsed("\n".join(server.lines))
    assert (summary["level"], first["level"], second["level"]) == ("summary", "request", "request")
    assert (first["method"], first["path"], first["status"]) == ("GET", "/v2/library/a/manifests/v1", 200)
    assert (first["bytes"], first["client"], first["user"]) == (size, "127.0.0.1", None)
    assert isinstance(first["seconds"], float)
    assert second["status"] == 404
    assert all(line.isascii() for line in server.lines)


@pytest.mark.slow
def test_json_log_has_no_bars(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", *JSON)
    assert terminal.finish()[0] == 0
    assert [line["level"] for line in parsed(terminal.shown)] == ["summary"]
