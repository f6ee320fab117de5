"""Tests that damaged or changed files are never served under their old digest."""

import json
import mmap
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mirror.fs.filestate import FileState
from tests.serve.running import (
    Server,
    blob_path,
    make_layout,
    open_files,
    put,
    replace_file,
    running,
    sha256,
    wait_for_file_times,
    write_index,
)
from tests.support.images import OCI_LAYER, Blob, Image, image, index

LARGE = Blob.of(os.urandom(200_000), OCI_LAYER)
SMALL = Blob.of(b"small", OCI_LAYER)
HUGE = Blob.of(bytes(60_000_000), OCI_LAYER)  # more than sockets can hold
APP = image("linux/amd64", LARGE, SMALL)
BIG = image("linux/amd64", HUGE)

BOTH = pytest.mark.parametrize("node", [LARGE, SMALL], ids=["large", "small"])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout", {"docker.io/a/b:1": APP, "docker.io/a/big:1": BIG})


@pytest.fixture
def server(layout: Path) -> Iterator[Server]:
    with running(layout) as found:
        yield found


def path_of(digest: str, repository: str = "a/b") -> str:
    kind = "manifests" if digest == APP.root else "blobs"
    return f"/v2/{repository}/{kind}/{digest}"


def flipped(data: bytes, place: int = -1) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file and restore its times, as an attacker would to hide the change."""
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def in_place(data: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.write(data)

    return change


def test_sparse_image_is_served_except_for_its_absent_platform(tmp_path: Path) -> None:
    other = image("linux/arm64", SMALL)
    both = index([APP, other])
    layout = make_layout(tmp_path / "layout", {"docker.io/a/b:1": both})
    named = {"io.containerd.image.name": "docker.io/a/b:1", "dev.oci-mirror.sparse": APP.root}
    entry = {**both.descriptor(), "annotations": named}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with running(layout) as server:
        assert server.get("/v2/a/b/manifests/1").body == both.data
        assert server.get(path_of(LARGE.digest)).body == LARGE.data
        reply = server.get(f"/v2/a/b/manifests/{other.root}")
        assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")
        assert f"not linux/arm64 ({other.root})" in reply.body.decode()
        assert server.messages == []


OTHER = image("linux/arm64", Blob.of(b"other", OCI_LAYER), SMALL)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A layout as `docker save` writes it: the whole index, and one of its platforms."""
    layout = make_layout(tmp_path / "saved", {"docker.io/a/b:1": index([APP, OTHER]), "docker.io/c/d:1": APP})
    for digest in {OTHER.root, *OTHER.blobs} - APP.blobs.keys():
        blob_path(layout, digest).unlink()
    return layout


@pytest.mark.parametrize("has_manifest", [False, True], ids=["nothing of it", "its manifest"])
def test_platform_that_is_absent_without_a_record_is_named_at_the_start(saved: Path, has_manifest: bool) -> None:
    if has_manifest:  # as containerd leaves it there
        put(saved, OTHER.root, OTHER.data)
    with running(saved) as server:
        assert server.messages == [
            f"{saved}: docker.io/a/b:1 is served without linux/arm64, which is not in the layout."
        ]
        assert server.get("/v2/_catalog").json["repositories"] == ["a/b", "c/d"]
        assert server.get("/v2/a/b/tags/list").json["tags"] == ["1"]
        assert server.get("/v2/a/b/manifests/1").body == index([APP, OTHER]).data
        assert server.get(path_of(LARGE.digest)).body == LARGE.data
        reply, path = server.get(f"/v2/a/b/manifests/{OTHER.root}"), f"/v2/a/b/manifests/{OTHER.root}"
        assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")
        assert f"not linux/arm64 ({OTHER.root})" in reply.body.decode()
        assert str(saved) not in reply.body.decode()
        assert server.get(path, "HEAD").status == 404
        assert len(server.messages) == 1


@pytest.mark.slow
def test_absent_platform_is_served_once_it_is_there(saved: Path) -> None:
    with running(saved) as server:
        assert server.get(f"/v2/a/b/manifests/{OTHER.root}").status == 404
        for digest, data in {**OTHER.blobs, OTHER.root: OTHER.data}.items():
            put(saved, digest, data)
        time.sleep(1.1)  # it is looked for again once a second
        assert server.get(f"/v2/a/b/manifests/{OTHER.root}").body == OTHER.data
        assert all(server.get(f"/v2/a/b/blobs/{digest}").status == 200 for digest in OTHER.blobs)


def test_absent_platform_may_be_in_another_layout(saved: Path, tmp_path: Path) -> None:
    other = make_layout(tmp_path / "other", {"docker.io/e/f:1": OTHER})
    with running(saved, other) as server:
        assert server.messages == []
        assert server.get(f"/v2/a/b/manifests/{OTHER.root}").body == OTHER.data


def test_platform_that_lacks_a_part_is_damaged_and_not_absent(saved: Path) -> None:
    for digest, data in {**OTHER.blobs, OTHER.root: OTHER.data}.items():
        put(saved, digest, data)
    missing = Blob.of(b"other", OCI_LAYER).digest
    blob_path(saved, missing).unlink()
    with running(saved) as server:
        assert server.messages == []
        assert server.get(f"/v2/a/b/manifests/{OTHER.root}").status == 200
        assert server.get(f"/v2/a/b/blobs/{missing}").status == 404
        assert "mirror verify DIR --repair" in server.messages[0]


# Damaged content


def directory_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flip first": lambda path: replace_file(path, flipped(path.read_bytes(), 0)),
    "flip last": lambda path: replace_file(path, flipped(path.read_bytes())),
    "truncate": lambda path: os.truncate(path, path.stat().st_size - 1),
    "append": lambda path: replace_file(path, path.read_bytes() + b"x"),
    "empty": lambda path: os.truncate(path, 0),
    "directory": directory_instead,
    "link": link,
    "fifo": fifo,
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("digest", [LARGE.digest, SMALL.digest, APP.root], ids=["large", "small", "manifest"])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_content_is_500_and_is_not_sent(
    server: Server, layout: Path, how: str, digest: str, method: str
) -> None:
    assert server.get(path_of(digest)).digest == digest
    DAMAGE[how](blob_path(layout, digest))
    reply = server.get(path_of(digest), method)
    assert reply.status == 500
    if method == "GET":
        assert reply.code == "UNKNOWN"
        assert reply.json["errors"][0]["detail"]["digest"] == digest
        assert str(layout) not in reply.body.decode()
    assert any(digest in text and "mirror verify DIR --repair" in text for text in server.messages)


@pytest.mark.slow
@BOTH
def test_range_of_damaged_content_is_500(server: Server, layout: Path, node: Blob) -> None:
    replace_file(blob_path(layout, node.digest), flipped(node.data))
    assert server.get(path_of(node.digest), Range="bytes=0-0").status == 500


@pytest.mark.slow
@BOTH
def test_repaired_content_is_served_again(server: Server, layout: Path, node: Blob) -> None:
    replace_file(blob_path(layout, node.digest), flipped(node.data))
    assert server.get(path_of(node.digest)).status == 500
    put(layout, node.digest, node.data)
    assert server.get(path_of(node.digest)).body == node.data


@pytest.mark.slow
def test_blobs_are_served_after_their_manifest_is_repaired(layout: Path) -> None:
    root = blob_path(layout, APP.root)
    replace_file(root, flipped(APP.data))
    with running(layout) as server:
        assert server.get("/v2/a/b/manifests/1").status == 500
        assert server.get(path_of(LARGE.digest)).status == 404
        put(layout, APP.root, APP.data)
        wait_for_file_times()
        assert server.get("/v2/a/b/manifests/1").status == 200
        assert server.get(path_of(LARGE.digest)).status == 200


@pytest.mark.slow
@BOTH
def test_missing_blob_is_404_and_reported(server: Server, layout: Path, node: Blob) -> None:
    blob_path(layout, node.digest).unlink()
    reply = server.get(path_of(node.digest))
    assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")
    assert any(node.digest in text and "missing" in text for text in server.messages)


@pytest.mark.slow
def test_manifest_is_404_after_the_blob_directory_is_emptied(layout: Path) -> None:
    with running(layout) as server:
        assert server.get("/v2/a/b/tags/list").status == 200
        shutil.rmtree(layout / "blobs/sha256")
        (layout / "blobs/sha256").mkdir()
        assert server.get("/v2/a/b/manifests/1").code == "MANIFEST_UNKNOWN"


# Hidden changes


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A layout whose files have not changed for a while, each of them served once."""
    folder = tmp_path_factory.mktemp("old") / "layout"
    images = {f"docker.io/a/b{number}:1": image("linux/amd64", blob) for number, blob in enumerate(AGED)}
    make_layout(folder, images)
    wait_for_file_times()
    with running(folder) as server:
        for number, blob in enumerate(AGED):
            assert server.get(path_of(blob.digest, f"a/b{number}")).body == blob.data
        yield server, folder


AGED = [Blob.of(bytes([number]) * 100_000, OCI_LAYER) for number in range(3)]


@pytest.mark.slow
def test_change_in_place_with_old_times_is_detected(old: tuple[Server, Path]) -> None:
    server, layout = old
    path = blob_path(layout, AGED[0].digest)
    keep_times(path, in_place(flipped(AGED[0].data, 0)))
    assert path.stat().st_size == AGED[0].size
    assert server.get(path_of(AGED[0].digest, "a/b0")).status == 500
    keep_times(path, in_place(AGED[0].data))
    assert server.get(path_of(AGED[0].digest, "a/b0")).body == AGED[0].data


def test_replaced_file_with_old_times_is_detected(old: tuple[Server, Path]) -> None:
    server, layout = old
    path = blob_path(layout, AGED[1].digest)
    keep_times(path, lambda path: replace_file(path, flipped(AGED[1].data)))
    assert server.get(path_of(AGED[1].digest, "a/b1")).status == 500


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round times to two seconds, as FAT does: a file may change twice and keep its times."""

    def of(status: os.stat_result) -> FileState:
        modified, changed = (at // 2_000_000_000 * 2_000_000_000 for at in (status.st_mtime_ns, status.st_ctime_ns))
        return FileState(status.st_dev, 1, status.st_size, modified, changed)

    monkeypatch.setattr(FileState, "of", of)


@pytest.mark.slow
@pytest.mark.usefixtures("coarse")
def test_change_within_a_tick_of_a_coarse_clock_is_detected(layout: Path) -> None:
    path = blob_path(layout, LARGE.digest)
    with running(layout) as server:
        for _ in range(20):
            assert server.get(path_of(LARGE.digest)).status == 200
            in_place(flipped(LARGE.data))(path)
            assert server.get(path_of(LARGE.digest)).status == 500
            in_place(LARGE.data)(path)


@pytest.fixture
def unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide changes of files from stat, as a bad medium and writes through a shared mapping do."""

    def of(status: os.stat_result) -> FileState:
        return FileState(status.st_dev, 1, status.st_size, 0, 0)

    monkeypatch.setattr(FileState, "of", of)


VARIED = Blob.of(bytes(range(251)) * 12_000, OCI_LAYER)  # 3 MB
LAST = VARIED.size - 1


def received_of(server: Server, headers: str = "") -> tuple[int, bytes]:
    """Request `VARIED` and return the status and what arrived of the body."""
    with server.connect() as connection:
        request = f"GET {path_of(VARIED.digest)} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n"
        connection.sendall(request.encode())
        data = b""
        with suppress(ConnectionError):
            while chunk := connection.recv(1 << 20):
                data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
def varied(tmp_path: Path, unnoticed: None) -> Iterator[tuple[Server, Path]]:
    """A server that has served `VARIED` once, and its file."""
    layout = make_layout(tmp_path / "layout", {"docker.io/a/b:1": image("linux/amd64", VARIED)})
    with running(layout) as server:
        assert received_of(server) == (200, VARIED.data)
        yield server, blob_path(layout, VARIED.digest)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 524_287, 524_288, 1_500_000, LAST])
def test_unnoticed_change_never_reaches_a_client(varied: tuple[Server, Path], place: int) -> None:
    server, path = varied
    in_place(flipped(VARIED.data, place))(path)
    status, body = received_of(server)
    assert status == 200
    assert VARIED.data.startswith(body)
    assert len(body) <= place
    assert any("has changed" in text for text in server.messages)
    assert received_of(server)[0] == 500
    in_place(VARIED.data)(path)
    path.touch()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "last"), [(0, 10), (1_000_000, 2_000_000), (1_500_000, 1_500_000), (2_000_000, LAST)]
)
def test_unnoticed_change_never_reaches_a_client_that_asks_for_a_range(
    varied: tuple[Server, Path], first: int, last: int
) -> None:
    server, path = varied
    in_place(flipped(VARIED.data, 1_500_000))(path)
    status, body = received_of(server, f"Range: bytes={first}-{last}\r\n")
    wanted = VARIED.data[first : last + 1]
    assert status == 206
    assert wanted.startswith(body)
    assert (body == wanted) == (not first <= 1_500_000 <= last)


@pytest.mark.slow
def test_writes_through_a_shared_mapping_never_reach_a_client(layout: Path, unnoticed: None) -> None:
    path = blob_path(layout, HUGE.digest)
    with running(layout) as server, path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        assert server.get(path_of(HUGE.digest, "a/big")).digest == HUGE.digest
        with requesting(server, HUGE, "a/big") as connection:
            body = connection.recv(1000)
            mapping[30_000_000:] = b"x" * 30_000_000
            with suppress(ConnectionError):
                while chunk := connection.recv(1 << 20):
                    body += chunk
        assert b"x" not in body.partition(b"\r\n\r\n")[2]
        assert len(body) < HUGE.size


@pytest.mark.slow
def test_blobs_are_served_if_not_all_states_fit_into_memory(
    layout: Path, unnoticed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.serve.blobs._MAX_STATES", 3)
    with running(layout) as server:
        for _ in range(2):
            assert server.get(path_of(HUGE.digest, "a/big")).digest == HUGE.digest
            assert server.get(path_of(LARGE.digest)).body == LARGE.data


@pytest.mark.slow
def test_change_while_a_blob_is_sent_closes_the_connection(server: Server, layout: Path) -> None:
    with requesting(server, HUGE, "a/big") as connection:
        head = connection.recv(1000)
        assert head.startswith(b"HTTP/1.1 200 ")
        in_place(b"x")(blob_path(layout, HUGE.digest))
        rest = received(connection)
    assert len(head) + rest < HUGE.size
    assert any("has changed" in text for text in server.messages)
    assert server.get(path_of(HUGE.digest, "a/big")).status == 500


@pytest.mark.slow
def test_truncation_while_a_blob_is_sent_closes_the_connection(server: Server, layout: Path) -> None:
    with requesting(server, HUGE, "a/big") as connection:
        connection.recv(1000)
        os.truncate(blob_path(layout, HUGE.digest), 10)
        assert received(connection) < HUGE.size


@pytest.mark.slow
def test_blob_is_sent_completely_if_its_file_is_replaced_meanwhile(server: Server, layout: Path) -> None:
    """Content is read from the open file that was hashed, not from the file that has its name now."""
    with requesting(server, HUGE, "a/big") as connection:
        connection.recv(10)
        replace_file(blob_path(layout, HUGE.digest), b"another file")
        assert received(connection) > HUGE.size


@contextmanager
def requesting(server: Server, node: Blob, repository: str) -> Iterator[socket.socket]:
    with server.connect() as connection:
        request = f"GET {path_of(node.digest, repository)} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        yield connection


def received(connection: socket.socket) -> int:
    count = 0
    try:
        while data := connection.recv(1 << 20):
            count += len(data)
    except ConnectionError:
        pass
    return count


# Concurrency and side effects


@pytest.mark.slow
def test_concurrent_requests_for_an_unhashed_blob_all_get_it(server: Server) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(sha256(server.get(path_of(HUGE.digest, "a/big")).body)))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [HUGE.digest] * 12


@pytest.mark.slow
def test_all_files_are_closed(server: Server, layout: Path) -> None:
    server.get(path_of(LARGE.digest))
    before = open_files()
    for _ in range(20):
        server.get(path_of(LARGE.digest))
        server.get(path_of(LARGE.digest), "HEAD")
        server.get(path_of(LARGE.digest), Range="bytes=9999999-")
        server.get(path_of(LARGE.digest), If_None_Match="*")
        with requesting(server, HUGE, "a/big"):
            pass  # the client disconnects
    replace_file(blob_path(layout, LARGE.digest), flipped(LARGE.data))
    for _ in range(20):
        server.get(path_of(LARGE.digest))
    assert becomes_true(lambda: open_files() <= before)


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true within a minute."""
    for _ in range(600):
        if condition():
            return True
        threading.Event().wait(0.1)
    return False


@pytest.mark.slow
def test_nothing_is_written_into_the_layout(layout: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in layout.rglob("*")}

    before = state()
    with running(layout) as server:
        for image_ in (APP, BIG):
            for digest in image_.blobs:
                server.get(path_of(digest, "a/b" if image_ is APP else "a/big"))
    assert state() == before


# index.json


def test_new_image_is_served_at_once(server: Server, layout: Path) -> None:
    assert server.get("/v2/a/new/manifests/1").status == 404
    other: Image = image("linux/arm64", SMALL)
    names = {"docker.io/a/b:1": APP, "docker.io/a/new:1": other}
    make_layout(layout, names)
    assert server.get("/v2/a/new/manifests/1").body == other.data
    assert server.get(path_of(SMALL.digest, "a/new")).body == SMALL.data
    write_index(layout, {"docker.io/a/b:1": APP})
    assert server.get("/v2/a/new/manifests/1").status == 404
    assert server.get(path_of(LARGE.digest)).status == 200


@pytest.mark.slow
@pytest.mark.usefixtures("coarse")
def test_changes_of_index_json_within_one_tick_are_all_detected(server: Server, layout: Path) -> None:
    for number in range(50):
        write_index(layout, {f"docker.io/a/b:{number}": APP})
        assert server.get("/v2/a/b/tags/list").json["tags"] == [str(number)]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "{", "[]", '{"schemaVersion": 2, "manifests": [{}]}', None])
def test_invalid_index_json_keeps_the_images_and_is_reported_once(
    server: Server, layout: Path, text: str | None
) -> None:
    index = layout / "index.json"
    whole = index.read_bytes()
    if text is None:
        index.unlink()
    else:
        index.write_text(text)
    for _ in range(5):
        assert server.get("/v2/a/b/manifests/1").body == APP.data
    assert len([text for text in server.messages if "still served" in text]) == 1
    index.write_bytes(whole.replace(b"a/b:1", b"a/b:2"))
    assert server.get("/v2/a/b/tags/list").json["tags"] == ["2"]
