"""A real image for several architectures, made of Debian's busybox-static, which needs only a kernel.

apt gets the packages from the sources of this machine, with temporary lists and a temporary cache. It does not matter
which packages are installed, and for which architectures this machine is set up.
"""

import fcntl
import gzip
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.images import (
    OCI_INDEX,
    OCI_LAYER,
    Blob,
    Image,
    config,
    digest_of,
    encode,
    index,
    manifest,
    platform_of,
)

PACKAGE = "busybox-static"
PLATFORMS = {"amd64": "linux/amd64", "arm64": "linux/arm64/v8", "armhf": "linux/arm/v7"}
_CREATED = "2023-06-10T00:00:00Z"
_LIMIT = 120  # seconds


class Unreachable(Exception):
    """The packages could not be fetched; the text has the messages of apt."""


def build(folder: Path) -> Image:
    """Build the image; the first caller fetches the packages into the directory, and others wait for them.

    Raises:
        Unreachable: there is no apt, or it cannot reach its archive.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = _fetched(folder) or _fetch(folder)
    return index(_image(PLATFORMS[architecture], package) for architecture, package in packages.items())


def _fetch(folder: Path) -> Mapping[str, Path]:
    """Return the packages by their architectures. A missing package list is not an error; a missing package is."""
    options = _options(folder)
    said = _apt(folder, *options, "update")
    said += _apt(folder, *options, "download", *(f"{PACKAGE}:{architecture}" for architecture in PLATFORMS))
    if not (packages := _fetched(folder)):
        raise Unreachable(f"apt-get could not fetch {PACKAGE}: {said}")
    return packages


def _fetched(folder: Path) -> Mapping[str, Path] | None:
    found = {architecture: list(folder.glob(f"{PACKAGE}_*_{architecture}.deb")) for architecture in PLATFORMS}
    return {architecture: paths[0] for architecture, paths in found.items()} if all(found.values()) else None


def _options(folder: Path) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state/status").touch()
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::Lists": folder / "state/lists",
        "Dir::State::Status": folder / "state/status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::pkgcache": "pkgcache.bin",  # some images turn the caches off
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",  # apt's own user could not write to the directory
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
        "Acquire::http::Timeout": 20,
    }
    architectures = [f"-oAPT::Architectures::={architecture}" for architecture in PLATFORMS]
    return ["-q", *(f"-o{name}={value}" for name, value in settings.items()), *architectures]


def _apt(folder: Path, *args: str) -> str:
    """Return the complaints of apt, if any."""
    try:
        done = subprocess.run(
            ["apt-get", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            timeout=_LIMIT,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise Unreachable(str(error)) from None
    return done.stderr


def _image(platform: str, package: Path) -> Image:
    """Return an image with one layer, the files of a package."""
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    layer = Blob.of(gzip.compress(archive, mtime=0), OCI_LAYER, digest_of(archive))
    configuration = config(
        *platform.split("/"),
        layers=[layer],
        created=_CREATED,
        config={"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["busybox", "sh"]},
        history=[{"created": _CREATED, "created_by": f"dpkg-deb --fsys-tarfile {package.name}"}],
    )
    return manifest(configuration, [layer], platform_of(platform))


def write_layout(image: Image, folder: Path, tag: str) -> None:
    """Write an image as an OCI image layout, as the specification describes it."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    for data in (*image.blobs.values(), *(data for data, _ in image.manifests.values())):
        (blobs / digest_of(data).partition(":")[2]).write_bytes(data)
    entry = {**image.descriptor(), "annotations": {"org.opencontainers.image.ref.name": tag}}
    whole = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    (folder / "index.json").write_bytes(encode(whole))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
