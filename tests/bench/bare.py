"""The bare loop: the least work that moves an image, hashes it and makes it durable. A yardstick, not a tool.

Threads with blocking sockets and a buffer of 1 MiB each. A pull receives, hashes, writes, fsyncs and renames; a push
reads, hashes and sends, and withholds the last piece of a blob until its digest is confirmed. Nothing is retried.
`python tests/bench/bare.py pull|push http[s]://HOST:PORT/REPO:TAG LAYOUT [CA]` exits with 1 if anything is wrong.
"""

import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

THREADS, BUFFER = 4, 1 << 20
WRITEBACK, RECENT = 8 << 20, 16 << 20  # bytes between two calls that start the writeback, and of those on the way
ACCEPT = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json\r\n"


class Bare:
    """An image and a layout; each thread has one of its own, with a connection that is kept open and a buffer."""

    def __init__(self, image: str, layout: str, ca: str | None = None) -> None:
        self.arguments, self.layout = (image, layout, ca), Path(layout)
        scheme, self.host, name = image.replace("://", "/").split("/", 2)
        self.repo, _, self.tag = name.rpartition(":")
        address, _, port = self.host.partition(":")
        self.data, self.tls = bytearray(BUFFER), scheme == "https"
        self.view = memoryview(self.data)
        self.socket = socket.create_connection((address, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            import ssl  # here, because it takes time that HTTP does not need

            self.socket = ssl.create_default_context(cafile=ca).wrap_socket(self.socket, server_hostname=address)

    def blob(self, digest: str) -> Path:
        return self.layout / "blobs/sha256" / digest.removeprefix("sha256:")

    def ask(self, method: str, path: str, headers: str = "", size: int = 0) -> None:
        lines = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {size}\r\n{headers}\r\n"
        self.socket.sendall(lines.encode())

    def answer(self, wanted: int) -> tuple[dict[str, str], int]:
        """Receive the head of a response; return it, and how many bytes of the body are in the buffer already."""
        got = 0
        while (end := self.data.find(b"\r\n\r\n", 0, got)) < 0:
            require(count := self.socket.recv_into(self.view[got : 1 << 16]), "the connection was closed")
            got += count
        status, *lines = self.data[:end].decode().split("\r\n")
        require(status.split()[1] == str(wanted), f"the registry answered {status}")
        self.view[: got - end - 4] = self.data[end + 4 : got]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, got - end - 4

    def pieces(self, size: int, got: int) -> Iterable[memoryview]:
        while size:
            want = min(size, BUFFER)
            while got < want:
                require(count := self.socket.recv_into(self.view[got:want]), "the connection was closed")
                got += count
            yield self.view[:want]
            size, got = size - want, 0

    def pull(self) -> None:
        self.blob("").mkdir(parents=True)
        data, root = self.get_manifest(self.tag)
        documents = [self.get_manifest(node["digest"])[0] for node in json.loads(data).get("manifests", [])]
        self.each(documents or [data], Bare.pull_blob)
        write(self.layout / "oci-layout", [b'{"imageLayoutVersion": "1.0.0"}'])
        write(self.layout / "index.json", [json.dumps({"schemaVersion": 2, "manifests": [root]}).encode()])

    def get_manifest(self, name: str) -> tuple[bytes, dict[str, object]]:
        self.ask("GET", f"/v2/{self.repo}/manifests/{name}", ACCEPT)
        head, got = self.answer(200)
        data = b"".join(map(bytes, self.pieces(int(head["content-length"]), got)))
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        write(self.blob(digest), [data], digest if name == self.tag else name)
        return data, {"mediaType": head["content-type"], "digest": digest, "size": len(data)}

    def pull_blob(self, digest: str, size: int) -> None:
        self.ask("GET", f"/v2/{self.repo}/blobs/{digest}")
        head, got = self.answer(200)
        require(head["content-length"] == str(size), f"{digest} has another size")
        write(self.blob(digest), self.pieces(size, got), digest)

    def push(self) -> None:
        root = json.loads((self.layout / "index.json").read_bytes())["manifests"][0]
        nodes = [*json.loads(self.blob(root["digest"]).read_bytes()).get("manifests", []), root]
        documents = [self.blob(node["digest"]).read_bytes() for node in nodes]
        self.each(documents[:-1] or documents, Bare.push_blob)
        for node, data in zip(nodes, documents, strict=True):
            path = f"/v2/{self.repo}/manifests/{self.tag if node is root else node['digest']}"
            self.ask("PUT", path, f"Content-Type: {node['mediaType']}\r\n", len(data))
            self.socket.sendall(data)
            self.answer(201)

    def push_blob(self, digest: str, size: int) -> None:
        self.ask("POST", f"/v2/{self.repo}/blobs/uploads/")
        location = self.answer(202)[0]["location"]
        self.ask("PUT", f"{location[location.index('/v2/') :]}&digest={digest}", size=size)
        hasher, sent = hashlib.sha256(), 0
        with self.blob(digest).open("rb", buffering=0) as file:
            while count := file.readinto(self.view):
                hasher.update(self.view[:count])
                require(sent + count < size or f"sha256:{hasher.hexdigest()}" == digest, f"{digest} is wrong")
                self.socket.sendall(self.view[:count]) if self.tls else self.socket.sendfile(file, sent, count)
                sent += count
        self.answer(201)

    def each(self, documents: list[bytes], work: "Callable[[Bare, str, int], None]") -> None:
        """Call `work` for each blob of these manifests, the largest first, in threads."""
        images = map(json.loads, documents)
        sizes = {node["digest"]: node["size"] for image in images for node in (image["config"], *image["layers"])}
        todo = iter(sorted(sizes.items(), key=lambda blob: -blob[1]))

        def run() -> None:
            own = Bare(*self.arguments)
            for digest, size in todo:
                work(own, digest, size)

        threads = [threading.Thread(target=run) for _ in range(THREADS)]
        for step in (threading.Thread.start, threading.Thread.join):
            list(map(step, threads))


def write(path: Path, pieces: Iterable[bytes | memoryview], digest: str = "") -> None:
    """Write a file. It gets its name when its digest is right and its bytes are on the disk."""
    hasher, written = hashlib.sha256(), 0
    with (partial := path.with_suffix(".partial")).open("wb", buffering=0) as file:
        for piece in pieces:
            hasher.update(piece)
            written += file.write(piece)
            if written % WRITEBACK == 0:
                os.posix_fadvise(file.fileno(), max(0, written - RECENT), RECENT, os.POSIX_FADV_DONTNEED)
        require(digest in ("", f"sha256:{hasher.hexdigest()}"), f"{digest} is wrong")
        os.fsync(file.fileno())
    partial.rename(path)


def require(condition: object, message: str) -> None:
    if not condition:
        print(message, file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    threading.excepthook = lambda failure: require(False, repr(failure.exc_value))
    getattr(Bare(*sys.argv[2:]), sys.argv[1])()
