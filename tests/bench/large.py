"""Publish an image with one large layer of zeros, which is never held in memory.

`python -m tests.bench.large HOST REPO TAG [BYTES]`
"""

import hashlib
import http.client
import sys
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from tests.support.images import Blob, Remote, image

SIZE = 2_000_000_000
_ZEROS = bytes(1_000_000)
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def publish(host: str, repo: str, tag: str, size: str = str(SIZE)) -> str:
    layer = _layer(int(size))
    _upload(host, repo, layer)
    whole = image("linux/amd64", layer)
    remote = Remote(host)
    unsent = {digest: data for digest, data in whole.blobs.items() if data}
    root = replace(whole, blobs=unsent).publish(remote, repo, tag)
    remote.close()
    return root


def _layer(size: int) -> Blob:
    hasher = hashlib.sha256()
    for chunk in _content(size):
        hasher.update(chunk)
    digest = f"sha256:{hasher.hexdigest()}"
    return Blob(b"", _LAYER, digest, size, digest)


def _content(size: int) -> Iterator[bytes]:
    """Yield an empty tar archive of whole megabytes."""
    for _ in range(size // len(_ZEROS)):
        yield _ZEROS


def _upload(host: str, repo: str, layer: Blob) -> None:
    connection = http.client.HTTPConnection(host, timeout=600)
    connection.request("POST", f"/v2/{repo}/blobs/uploads/")
    session = _answer(connection, 202)
    location = urlsplit(session.headers["Location"])
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(layer.size)}
    connection.request("PUT", f"{location.path}?{location.query}&digest={layer.digest}", _content(layer.size), headers)
    _answer(connection, 201)
    connection.close()


def _answer(connection: http.client.HTTPConnection, wanted: int) -> http.client.HTTPResponse:
    response = connection.getresponse()
    response.read()
    if response.status != wanted:
        raise SystemExit(f"docker-registry answered {response.status} {response.reason}.")
    return response


if __name__ == "__main__":
    print(publish(*sys.argv[1:]))
