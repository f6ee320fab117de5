"""Files that users name are read in one way: none blocks, fills the memory, or is refused in other words"""

import os
import threading
from pathlib import Path

import pytest

from mirror.config.files import read_file
from tests.support import images, layouts
from tests.support.command import Mirror

REGISTRY = "127.0.0.1:9/a"
COMMANDS = {
    "config": f"tags {REGISTRY} --config FILE",
    "ca": f"tags {REGISTRY} --ca-file FILE",
    "credentials": f"tags {REGISTRY} --authfile FILE",
    "names": "pull --from-file FILE",
    "names of records": "record --from-file FILE",
    "record": "verify layout --record FILE",
    "receipt": "verify --receipt FILE",
    "passwords": "serve layout --listen 127.0.0.1:0 --htpasswd FILE",
    "registries.conf": f"tags {REGISTRY}",
}
TEXTS = [kind for kind in COMMANDS if kind != "ca"]  # comments in a file of certificates have any encoding


def refusal(mirror: Mirror, kind: str, file: str) -> str:
    """Name a file to a command, and return the message of its error, without the name of the file."""
    layouts.write(mirror.folder / "layout", images.image("linux/amd64"), name="docker.io/library/a:v1")
    line = [file if word == "FILE" else word for word in COMMANDS[kind].split()]
    variables = {} if file in line else {"CONTAINERS_REGISTRIES_CONF": file}
    error = mirror(*line, "--json", env=variables, code=2).json["error"]
    assert error["code"] == "config-error"
    message: str = error["message"]
    assert message.startswith(file)
    return message.removeprefix(file)


@pytest.mark.parametrize("kind", COMMANDS)
def test_missing_file_is_refused(mirror: Mirror, kind: str) -> None:
    assert refusal(mirror, kind, "absent") == " cannot be read: No such file or directory."


@pytest.mark.parametrize("kind", COMMANDS)
def test_directory_is_refused(mirror: Mirror, kind: str) -> None:
    (mirror.folder / "directory").mkdir()
    assert refusal(mirror, kind, "directory") == " cannot be read: Is a directory."


@pytest.mark.parametrize("kind", COMMANDS)
def test_fifo_without_a_writer_is_refused_and_not_waited_for(mirror: Mirror, kind: str) -> None:
    os.mkfifo(mirror.folder / "fifo")
    assert refusal(mirror, kind, "fifo") == " cannot be read: it is a FIFO to which nothing is written."


@pytest.mark.parametrize("kind", TEXTS)
def test_binary_file_is_refused(mirror: Mirror, kind: str) -> None:
    (mirror.folder / "binary").write_bytes(b"# a\n\0\xff\xfe")
    assert refusal(mirror, kind, "binary") == ", line 2: byte 5 of the file is not UTF-8."


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMMANDS)
def test_large_file_is_refused(mirror: Mirror, kind: str) -> None:
    with (mirror.folder / "large").open("wb") as file:
        file.truncate(300 * 1024**2)
    assert refusal(mirror, kind, "large").startswith(" has more than ")


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMMANDS)
def test_endless_file_is_refused(mirror: Mirror, kind: str) -> None:
    assert refusal(mirror, kind, "/dev/zero").endswith("iB, so it is not read.")


def test_endless_stdin_is_refused(mirror: Mirror) -> None:
    found = mirror("pull", "--from-file", "-", stdin="#" * (16 * 1024**2 + 1), code=2)
    assert found.err.startswith("error: stdin has more than 16 MiB, so it is not read.\n")


def test_closed_stdin_has_no_names(mirror: Mirror) -> None:
    found = mirror.run(["sh", "-c", 'exec "$@" <&-', "sh", *mirror.command("pull", "--from-file", "-")])
    assert (found.code, found.err.splitlines()[0]) == (2, "error: Name at least one image, such as redis:4.0.")


def test_pipe_is_read_to_its_end() -> None:
    """As in `--from-file <(sort images.txt)`, whose output comes bit by bit"""
    reader, writer = os.pipe()
    os.write(writer, b"first\n")

    def finish() -> None:
        os.write(writer, b"last\n")
        os.close(writer)

    later = threading.Timer(0.05, finish)
    later.start()
    assert read_file(Path(f"/dev/fd/{reader}"), 100) == b"first\nlast\n"
    later.join()
    os.close(reader)
