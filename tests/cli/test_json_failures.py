"""Tests of the JSON that a failed command prints."""

import signal
import threading
from pathlib import Path

import pytest

from tests.cli.test_crash import Seen, finish
from tests.support import images, layouts
from tests.support.command import Mirror
from tests.support.registry import EmbeddedRegistry, Fault, Stall


@pytest.mark.parametrize(
    ("args", "schema", "code", "exit_code"),
    [
        ("verify nowhere", "mirror.verify/1", "not-found", 2),
        ("pull 127.0.0.1:9/a --retries 0", "mirror.pull/1", "transfer-error", 1),
        ("pull UPPER", "mirror.pull/1", "invalid-reference", 2),
        ("ls broken", "mirror.ls/1", "broken-layout", 3),
        ("rm layout nothing", "mirror.rm/3", "not-found", 2),
        ("inspect layout nothing", "mirror.inspect/2", "not-found", 2),
        ("record layout nothing", "mirror.record/1", "not-found", 2),
        ("pull a --config none.toml", "mirror.pull/1", "config-error", 2),
        ("verify layout --record layout/index.json", "mirror.verify/1", "invalid-record", 3),
    ],
)
def test_failure_is_one_json_object(
    mirror: Mirror, tmp_path: Path, args: str, schema: str, code: str, exit_code: int
) -> None:
    layouts.write(tmp_path / "layout", images.image("linux/amd64"), name="docker.io/library/a:v1")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/index.json").write_text("{}")
    (tmp_path / "broken/oci-layout").write_text("{}")
    result = mirror(*args.split(), "--json", code=exit_code)
    error = result.json["error"]
    assert result.json == {"schema": schema, "error": error}
    assert (error["code"], error["exitCode"]) == (code, exit_code)
    assert f"error: {error['message']}\n" in result.err
    assert error["hint"] is None or f"hint: {error['hint']}\n" in result.err


@pytest.mark.parametrize(
    ("args", "schema"),
    [
        ("pull --json", "mirror.pull/1"),
        ("pull --frob --json a", "mirror.pull/1"),
        ("rm --json", "mirror.rm/3"),
        ("pul a --json", "mirror.error/1"),
        ("pul push --json", "mirror.error/1"),
        ("inspect layout --raw --json", "mirror.inspect/2"),
        ("verify layout --level x --json", "mirror.verify/1"),
    ],
)
def test_wrong_usage_is_a_json_object_if_json_was_asked_for(mirror: Mirror, args: str, schema: str) -> None:
    found = mirror(*args.split(), code=2).json
    assert (found["schema"], found["error"]["code"], found["error"]["exitCode"]) == (schema, "usage-error", 2)


@pytest.mark.parametrize("args", ["verify nowhere", "verify -- --json", "pull --frob a"])
def test_failure_without_json_prints_nothing_to_stdout(mirror: Mirror, args: str) -> None:
    assert mirror(*args.split(), code=2).out == ""


@pytest.mark.slow
def test_failure_after_the_result_prints_no_second_object(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    image = images.image("linux/amd64")
    image.publish(registry, "a", "v1")
    names = f"{registry.host}/a:v1", f"{registry.host}/b:v1"
    found = mirror("pull", *names, "--all", "--keep-going", "--json", code=4).json
    assert "error" not in found
    assert [one["errorCode"] for one in found["images"]] == [None, "not-found"]
    (mirror.folder / "taken").mkdir()
    found = mirror("pull", names[0], "--all", "--digestfile", "taken", "--json", code=1).json
    assert "error" not in found
    assert [one["digest"] for one in found["images"]] == [image.root]


@pytest.mark.slow
def test_interrupted_command_prints_a_json_object(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    images.image("linux/amd64").publish(registry, "a", "v1")
    began = threading.Event()
    registry.fault(Fault(method="GET", path="/manifests/v1", action=(Stall(None), Seen(began))))
    running = mirror.start("pull", f"{registry.host}/a:v1", "--json")
    assert began.wait(60)
    running.send_signal(signal.SIGINT)
    result = finish(running)
    error = {
        "code": "interrupted",
        "message": "interrupted.",
        "hint": "Run the same command again to resume.",
        "exitCode": 130,
    }
    assert (result.code, result.json) == (130, {"schema": "mirror.pull/1", "error": error})
