"""Tests of file systems that lack a feature: times, syncing of directories, or locks."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirror.fs import features
from tests.support import images
from tests.support.command import Mirror, assert_whole, names
from tests.support.registry import Basic, EmbeddedRegistry, Fault, Header, serving

IMAGE = images.image("linux/amd64", images.layer(1, 300), images.layer(2, 300))
Break = Callable[[pytest.MonkeyPatch, int], None]


def no_times(patch: pytest.MonkeyPatch, number: int) -> None:
    """Refuse to set times, as exFAT and NTFS do if they are mounted for another user."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(os, "utime", refuse)


def no_sync(patch: pytest.MonkeyPatch, number: int) -> None:
    """Refuse to sync directories, as CIFS (EACCES), 9p (EBADF) and FUSE (EOPNOTSUPP) may do."""
    fsync = os.fsync

    def refuse(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    patch.setattr(os, "fsync", refuse)


def no_locks(patch: pytest.MonkeyPatch, number: int) -> None:
    """Refuse to lock, as NFS without a lock daemon (ENOLCK) and some FUSE file systems (ENOSYS) do."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(fcntl, "flock", refuse)


MISSING: list[tuple[Break, int, str]] = [
    *((no_times, number, "Last Modified") for number in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EIO)),
    *((no_sync, number, "after a power cut") for number in (errno.EOPNOTSUPP, errno.EACCES, errno.EBADF, errno.EINVAL)),
    *((no_locks, number, "two mirror commands") for number in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)),
]


@pytest.fixture(autouse=True)
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what earlier tests in this process have reported."""
    monkeypatch.setattr(features, "_reported", set())


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "number", "consequence"), MISSING)
def test_missing_feature_is_reported_once_and_the_pull_succeeds(
    mirror: Mirror,
    registry: EmbeddedRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Break,
    number: int,
    consequence: str,
) -> None:
    IMAGE.publish(registry, "team/app", "v1")
    dated = Header("Last-Modified", "Tue, 01 Jan 2019 00:00:00 GMT")
    registry.fault(Fault(path="/blobs/", times=None, action=dated))
    with monkeypatch.context() as patch:
        broken(patch, number)
        result = mirror("pull", f"{registry.host}/team/app:v1", "--all")
    (warning,) = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert os.strerror(number) in warning
    assert consequence in warning
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "number"), [(no_sync, errno.EIO), (no_sync, errno.ENOSPC), (no_locks, errno.EIO)])
def test_errors_of_the_disk_are_still_errors(
    mirror: Mirror, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch, broken: Break, number: int
) -> None:
    IMAGE.publish(registry, "team/app", "v1")
    with monkeypatch.context() as patch:
        broken(patch, number)
        assert os.strerror(number) in mirror("pull", f"{registry.host}/team/app:v1", code=1).err


@pytest.mark.slow
def test_every_command_that_writes_works_without_the_features(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{registry.host}/team/app:v1"
    IMAGE.publish(registry, "team/app", "v1")
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as guarded, monkeypatch.context() as patch:
        no_times(patch, errno.EPERM)
        no_sync(patch, errno.EBADF)
        no_locks(patch, errno.EBADF)
        mirror("login", guarded.host, "-u", "ann", "--password-stdin", stdin="secret")
        mirror("logout", guarded.host)
        mirror("pull", name, "--all")
        mirror("export", "layout", "images.tar")
        mirror("import", "images.tar", "other")
        mirror("record", "layout", "-o", "record.md")
        next((tmp_path / "other/blobs/sha256").iterdir()).write_bytes(b"wrong")
        mirror("verify", "other", "--repair", "--from", "./layout", "--junit", "verify.xml")
        mirror("prune", "other", "--delete")
        assert names(tmp_path / "other") == [name]
        assert_whole(tmp_path / "other")
        mirror("rm", "other", name)
        assert names(tmp_path / "other") == []
