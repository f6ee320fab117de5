"""Tests of mirror export and mirror import on the command line."""

import gzip
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from mirror.content import decompress
from tests.support import images, layouts, tools
from tests.support.archives import (
    HOSTILE,
    IMAGE_NAME,
    REF_NAME,
    Saved,
    containerd_archive,
    crane_archive,
    docker_archive,
    docker_new,
    docker_old,
    encode_list,
    layout,
    named,
    oci_archive,
    packed,
    unpacked,
    with_folders,
)
from tests.support.command import Mirror, Result, assert_whole, blob_path, blobs, check_manners, entries, names, tree
from tests.support.images import Image
from tests.support.profiles import examples
from tests.support.registry import EmbeddedRegistry, serving
from tests.support.strategies import mutated

AMD64 = images.image("linux/amd64", images.layer(1, 3000), images.layer(2, 500))
ARM = images.image("linux/arm64", images.layer(3, 900), images.layer(2, 500))
MULTI = images.index([AMD64, ARM, images.attestation(AMD64)])
DOCKER = images.multi_arch(docker=True)
NESTED = images.index([images.index([images.image("linux/s390x", images.layer(4, 300))]), AMD64])
CHART = images.artifact("application/vnd.example.chart", images.Blob.of(b"chart", "text/plain"))
NAME = "quay.io/team/app:v1"
SAVED = Saved(20, "busybox:1.36", "busybox:latest")


@dataclass(frozen=True)
class Stock:
    """A layout with a pulled image of each kind."""

    folder: Path
    host: str

    def name(self, repo: str) -> str:
        return f"{self.host}/{repo}:v1"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        found = Stock(folder / "layout", registry.host)
        kinds = {"multi": MULTI, "docker": DOCKER, "nested": NESTED, "chart": CHART, "single": AMD64}
        for repo, image in kinds.items():
            image.publish(registry, repo, "v1")
        Mirror(folder)("pull", *map(found.name, kinds), "--all")
        yield found


def saved(tmp_path: Path, data: bytes, name: str = "images.tar") -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def shell(mirror: Mirror, command: str, code: int = 0) -> Result:
    """Run a shell command with `mirror` and pipes; it fails if any part of a pipe fails."""
    whole = shlex.join(mirror.command())
    result = mirror.run(["bash", "-o", "pipefail", "-c", command.replace("mirror ", whole + " ")])
    assert result.code == code, result
    check_manners(result)
    return result


def root(image: Image) -> set[str]:
    return {image.root, *image.manifests, *image.blobs}


# Round trips


@pytest.mark.slow
def test_export_and_import_reproduce_the_layout(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    result = mirror("export", stock.folder, "images.tar")
    assert result.lines == sorted(f"{stock.name(repo)}@{digest}" for repo, digest in roots(stock).items())
    assert result.err.startswith("exported 5 images")
    back = mirror("import", "images.tar", "back")
    assert sorted(back.lines) == result.lines
    assert tree(tmp_path / "back") == tree(stock.folder)
    assert_whole(tmp_path / "back")


def roots(stock: Stock) -> dict[str, str]:
    """Return the digest of each repository."""
    digests = [entry["digest"] for entry in entries(stock.folder)]
    return dict(zip((name[len(stock.host) + 1 : -3] for name in names(stock.folder)), digests, strict=True))


@pytest.mark.slow
def test_exported_bytes_do_not_depend_on_the_order_of_arguments(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    one, two = stock.name("multi"), stock.name("docker")
    for name, asked in (("a.tar", (one, two)), ("b.tar", (two, one)), ("c.tar", (one, two))):
        mirror("export", stock.folder, name, *asked)
    assert len({(tmp_path / name).read_bytes() for name in ("a.tar", "b.tar", "c.tar")}) == 1


@pytest.mark.slow
def test_export_of_one_image_has_only_its_blobs(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    mirror("export", stock.folder, "one.tar", "multi:v1")
    mirror("import", "one.tar", "back")
    assert names(tmp_path / "back") == [stock.name("multi")]
    assert blobs(tmp_path / "back") == root(MULTI)


@pytest.mark.slow
def test_as_renames_a_single_image(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    assert mirror("export", stock.folder, "one.tar", "multi:v1", "--as", NAME).lines == [f"{NAME}@{MULTI.root}"]
    assert mirror("import", "one.tar", "back", "--as", "quay.io/x/y").lines == [f"quay.io/x/y:latest@{MULTI.root}"]
    assert names(tmp_path / "back") == ["quay.io/x/y:latest"]
    for command in (("export", stock.folder, "all.tar"), ("import", saved(tmp_path, two_images()), "other")):
        result = mirror(*command, "--as", NAME, code=2)
        assert f"images, but {NAME} names one" in result.err


def two_images() -> bytes:
    return packed(layout(named(AMD64, "quay.io/a/a:1"), named(ARM, "quay.io/a/b:1"), content=[AMD64, ARM]))


@pytest.mark.slow
def test_export_and_import_work_through_pipes(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    result = shell(mirror, f"mirror export {stock.folder} - multi:v1 | mirror import - back")
    assert result.lines == [f"{stock.name('multi')}@{MULTI.root}"]
    assert blobs(tmp_path / "back") == root(MULTI)
    mirror("export", stock.folder, "one.tar", "multi:v1")
    shell(mirror, f"mirror export {stock.folder} - multi:v1 2>/dev/null | cmp - one.tar")


@pytest.mark.slow
def test_a_sparse_image_stays_sparse(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    MULTI.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--platform", "linux/arm64", "--sparse")
    mirror("export", "layout", "a.tar")
    mirror("import", "a.tar", "back")
    assert tree(tmp_path / "back") == tree(tmp_path / "layout")
    assert mirror("verify", "a.tar", "--json").json["verdict"] == "ok"


@pytest.mark.slow
def test_short_and_missing_names_are_preserved(mirror: Mirror, tmp_path: Path) -> None:
    """Archives of skopeo have tags without repositories, or no names; two images may have the same tag."""
    bare = [{**image.descriptor(), "annotations": {REF_NAME: "1"}} for image in (AMD64, ARM)]
    data = packed(layout(*bare, CHART.descriptor(), content=[AMD64, ARM, CHART]))
    mirror("import", saved(tmp_path, data), "back")
    mirror("import", "images.tar", "back")
    found = [(each["digest"], each.get("annotations")) for each in entries(tmp_path / "back")]
    wanted = [(AMD64.root, {REF_NAME: "1"}), (ARM.root, {REF_NAME: "1"}), (CHART.root, None)]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    mirror("export", "back", "again.tar")
    again = json.loads(unpacked((tmp_path / "again.tar").read_bytes())["index.json"])
    assert again["manifests"] == entries(tmp_path / "back")


def test_import_refuses_one_full_name_for_two_images(mirror: Mirror, tmp_path: Path) -> None:
    data = packed(layout(named(AMD64, NAME), named(ARM, NAME), content=[AMD64, ARM]))
    result = mirror("import", saved(tmp_path, data), "back", code=2)
    assert f"two images called {NAME}" in result.err
    assert AMD64.root in result.err
    mirror("import", "images.tar", "back", ARM.root)
    assert blobs(tmp_path / "back") == root(ARM)


# Archives of other tools


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (oci_archive(MULTI, NAME), {NAME}),
        (packed(with_folders(layout(named(MULTI, NAME), content=[MULTI]))), {NAME}),
        (containerd_archive(MULTI, NAME), {NAME}),
        (docker_new(SAVED), {"docker.io/library/busybox:1.36"}),
        (docker_old(SAVED), {"docker.io/library/busybox:1.36", "docker.io/library/busybox:latest"}),
        (docker_archive(SAVED), {"docker.io/library/busybox:1.36", "docker.io/library/busybox:latest"}),
        (crane_archive(SAVED), {"docker.io/library/busybox:1.36", "docker.io/library/busybox:latest"}),
    ],
    ids=["oci-archive", "sorted", "containerd", "docker 25", "docker 24", "podman", "crane"],
)
@pytest.mark.parametrize("way", ["pipe", "redirected", "file"])
def test_archives_of_other_tools_are_imported_and_verify(
    mirror: Mirror, tmp_path: Path, data: bytes, wanted: set[str], way: str
) -> None:
    saved(tmp_path, data)
    if way == "file":
        mirror("import", "images.tar", "back")
    else:
        source = "- back < images.tar" if way == "redirected" else "- back"
        shell(mirror, f"{'cat images.tar | ' if way == 'pipe' else ''}mirror import {source}")
    assert set(names(tmp_path / "back")) == wanted
    assert_whole(tmp_path / "back")
    assert mirror("verify", "back", "--json").json["findings"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "home", "images.tar"]


@pytest.mark.slow
def test_platforms_missing_from_a_containerd_archive_are_recorded_as_absent(mirror: Mirror, tmp_path: Path) -> None:
    saved(tmp_path, containerd_archive(MULTI, NAME, AMD64))
    result = mirror("import", "images.tar", "back")
    assert f"{NAME}: images.tar has 1 of the 3 manifests of its index; the others are recorded as absent." in result.err
    assert mirror("verify", "back", "--json").json["verdict"] == "ok"
    (entry,) = entries(tmp_path / "back")
    assert (entry["digest"], entry["annotations"]["dev.oci-mirror.sparse"]) == (MULTI.root, AMD64.root)


def test_index_without_any_of_its_manifests_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    saved(tmp_path, containerd_archive(MULTI, NAME, CHART))
    result = mirror("import", "images.tar", "back", code=3)
    assert "images.tar lacks sha256:" in result.err
    assert not (tmp_path / "back").exists()


# Archives for docker


def test_a_docker_archive_has_one_platform(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    arguments = ("--format", "docker-archive", "--platform", "linux/arm64", "--as", NAME)
    result = mirror("export", stock.folder, "arm.tar", "multi:v1", *arguments)
    assert result.lines == [f"{NAME}@{ARM.root}"]
    assert "1 platform" in result.err
    files = unpacked((tmp_path / "arm.tar").read_bytes())
    (listed,) = json.loads(files["manifest.json"])
    assert listed["RepoTags"] == [NAME]
    document = json.loads(ARM.data)
    named_there = [images.digest_of(files[path]) for path in (listed["Config"], *listed["Layers"])]
    assert named_there == [node["digest"] for node in (document["config"], *document["layers"])]
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["platform"] == {"architecture": "arm64", "os": "linux"}
    assert entry["annotations"] == {
        IMAGE_NAME: NAME,
        REF_NAME: "v1",
        "dev.oci-mirror.index": MULTI.root,
        "dev.oci-mirror.origin": f"{stock.name('multi')}@{MULTI.root}",
    }


@pytest.mark.slow
def test_docker_archive_is_imported_with_its_digests(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    mirror("export", stock.folder, "a.tar", "docker:v1", "--format", "docker-archive", "--platform", "linux/amd64")
    mirror("import", "a.tar", "back")
    child = json.loads(DOCKER.data)["manifests"][0]["digest"]
    assert entries(tmp_path / "back")[0]["digest"] == child
    assert mirror("verify", "back", "--json").json["findings"] == []


def test_image_with_one_platform_needs_no_platform_option(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    mirror("export", stock.folder, "a.tar", "single:v1", "--format", "docker-archive")
    lonely = images.index([images.image("linux/s390x", images.layer(9, 100))])
    saved(tmp_path, oci_archive(lonely, NAME))
    mirror("import", "images.tar", "back")
    result = mirror("export", "back", "b.tar", "--format", "docker-archive")
    assert result.lines == [f"{NAME}@{json.loads(lonely.data)['manifests'][0]['digest']}"]


REFUSED: dict[str, tuple[list[str], str]] = {
    "an artifact": (["chart:v1", "--format", "docker-archive"], "is not an image, so docker cannot load it"),
    "a missing platform": (
        ["multi:v1", "--format", "docker-archive", "--platform", "linux/riscv64"],
        "has no image for linux/riscv64",
    ),
    "not the platform of the image": (
        ["single:v1", "--format", "docker-archive", "--platform", "linux/arm64"],
        "has no image for linux/arm64",
    ),
    "a platform for an oci-archive": (["--platform", "linux/amd64"], "--platform is for docker-archive"),
    "an unknown format": (["--format", "zip"], "'zip' is not one of"),
    "a missing image": (["no/such"], "no image 'no/such'"),
    "an invalid name": (["multi:v1", "--as", "A B"], "is not a valid image reference"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_export_is_refused(mirror: Mirror, stock: Stock, tmp_path: Path, case: str) -> None:
    arguments, words = REFUSED[case]
    result = mirror("export", stock.folder, "x.tar", *arguments, code=2)
    assert words in result.err
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.slow
def test_docker_archive_needs_a_full_image_name(mirror: Mirror, tmp_path: Path) -> None:
    bare = {**AMD64.descriptor(), "annotations": {REF_NAME: "1"}}
    mirror("import", saved(tmp_path, packed(layout(bare, content=[AMD64]))), "back")
    result = mirror("export", "back", "x.tar", "--format", "docker-archive", code=2)
    assert "does not record the repository of '1'" in result.err
    assert "--as" in result.err
    mirror("export", "back", "x.tar", "--format", "docker-archive", "--as", NAME)


@pytest.mark.slow
def test_export_warns_that_docker_loads_an_untagged_image_without_a_name(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    AMD64.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a@{AMD64.root}")
    for target in ("x.tar", "-"):
        result = mirror("export", "layout", target, "--format", "docker-archive")
        assert f"{registry.host}/a@{AMD64.root} has no tag, so docker loads it without a name." in result.err
    assert json.loads(unpacked((tmp_path / "x.tar").read_bytes())["manifest.json"])[0]["RepoTags"] == []


def test_layers_and_diff_ids_that_do_not_match_are_refused(mirror: Mirror, tmp_path: Path) -> None:
    layer = images.layer(1, 200)
    odd = images.manifest(images.config("linux", "amd64", layers=[layer, layer]), [layer])
    mirror("import", saved(tmp_path, oci_archive(odd, NAME)), "back")
    result = mirror("export", "back", "x.tar", "--format", "docker-archive", code=3)
    assert "1 layers, but its config has 2 diff_ids" in result.err


# Output


@pytest.mark.slow
def test_export_and_import_print_json(mirror: Mirror, stock: Stock) -> None:
    out = mirror("export", stock.folder, "x.tar", "multi:v1", "--json").json
    assert (out["schema"], out["images"][0]["digest"]) == ("mirror.export/1", MULTI.root)
    assert out["images"][0]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert out["moved"] == {"blobs": len(MULTI.blobs), "size": sum(map(len, MULTI.blobs.values()))}
    back = mirror("import", "x.tar", "back", "--json").json
    assert (back["schema"], back["moved"]) == ("mirror.import/1", out["moved"])
    again = mirror("import", "x.tar", "back", "--json").json
    assert (again["moved"]["blobs"], again["reused"]) == (0, out["moved"])


@pytest.mark.slow
def test_quiet_prints_only_the_result(mirror: Mirror, stock: Stock) -> None:
    line = f"{stock.name('multi')}@{MULTI.root}\n"
    for command in (("export", stock.folder, "x.tar", "multi:v1"), ("import", "x.tar", "back")):
        result = mirror(*command, "-q")
        assert (result.out, result.err) == (line, "")


def test_archive_on_stdout_moves_the_result_to_stderr(mirror: Mirror, stock: Stock) -> None:
    result = mirror("export", stock.folder, "-", "multi:v1")
    assert next(iter(unpacked(result.raw))) == "oci-layout"
    assert f"{stock.name('multi')}@{MULTI.root}\nexported 1 image" in result.err
    assert mirror("export", stock.folder, "-", "multi:v1", "-q").err == ""
    assert "--json" in mirror("export", stock.folder, "-", "--json", code=2).err


@pytest.mark.slow
def test_import_reports_a_moved_tag(mirror: Mirror, tmp_path: Path) -> None:
    mirror("import", saved(tmp_path, oci_archive(AMD64, NAME)), "back")
    later = images.image("linux/amd64", images.layer(7, 300))
    result = mirror("import", saved(tmp_path, oci_archive(later, NAME)), "back")
    assert f"{NAME} now stands for {later.root} (was {AMD64.root})." in result.err


# Errors


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_archive_is_refused_in_one_line_and_nothing_is_stored(
    mirror: Mirror, tmp_path: Path, attack: str
) -> None:
    body, words = HOSTILE[attack]
    head = oci_archive(AMD64, NAME).rstrip(b"\0")
    saved(tmp_path, head + bytes(-len(head) % 512) + body)
    result = mirror("import", "images.tar", "back", code=3)
    assert words in result.err
    assert [line for line in result.err.splitlines() if not line.startswith("hint: Pack the files")] == [
        result.err.splitlines()[0]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "images.tar"]


@pytest.mark.slow
def test_corrupt_blob_is_not_stored_and_its_image_is_not_named(mirror: Mirror, tmp_path: Path) -> None:
    layer = images.layer(1, 3000)
    data = oci_archive(AMD64, NAME)
    saved(tmp_path, data.replace(layer.data, layer.data[:-1] + bytes([layer.data[-1] ^ 1])))
    result = mirror("import", "images.tar", "back", code=3)
    assert f"{layer.digest} from images.tar does not match its digest" in result.err
    assert "mirror verify images.tar. Fetch or export the archive again." in result.err
    assert names(tmp_path / "back") == []
    assert layer.digest not in blobs(tmp_path / "back")
    saved(tmp_path, data)
    mirror("import", "images.tar", "back")
    assert_whole(tmp_path / "back")


@pytest.mark.slow
def test_corrupt_blob_in_the_layout_leaves_no_archive(mirror: Mirror, tmp_path: Path) -> None:
    mirror("import", saved(tmp_path, oci_archive(AMD64, NAME)), "back")
    path = blob_path(tmp_path / "back", images.layer(1, 3000).digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = mirror("export", "back", "x.tar", code=3)
    assert "does not match its digest" in result.err
    assert "mirror verify back --repair --from SOURCE" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "home", "images.tar"]
    archive = mirror("export", "back", "-", code=3).raw
    assert path.read_bytes() not in archive
    assert b"index.json" not in archive  # which comes last


@pytest.mark.slow
def test_import_repairs_a_corrupt_blob_in_the_layout(mirror: Mirror, tmp_path: Path) -> None:
    mirror("import", saved(tmp_path, oci_archive(AMD64, NAME)), "back")
    layer = images.layer(1, 3000)
    blob_path(tmp_path / "back", layer.digest).write_bytes(b"x" * layer.size)
    assert mirror("import", "images.tar", "back", "--json").json["healed"] == [layer.digest]
    assert_whole(tmp_path / "back")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no.tar", "back"], 2, "There is no file 'no.tar'.\nhint: Check the path.\n"),
        ([".", "back"], 1, "To copy a layout: mirror copy . DST"),
        (["images.tar", "home"], 2, "not empty and not an OCI image layout"),
        (["images.tar", "back", "x:1"], 2, "no image 'x:1'"),
        (["packed.tar.gz", "back"], 3, "zcat packed.tar.gz | mirror import - LAYOUT"),
        (["home.txt", "back"], 3, "is not a tar archive.\nhint: Is this the right file? "),
    ],
)
def test_invalid_import_is_refused(mirror: Mirror, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    saved(tmp_path, oci_archive(AMD64, NAME))
    saved(tmp_path, b"\x1f\x8b\x08" + bytes(900), "packed.tar.gz")
    saved(tmp_path, b"hello\n" * 900, "home.txt")
    (tmp_path / "home/x").touch()
    assert words in mirror("import", *arguments, code=code).err
    assert not (tmp_path / "back").exists()


@pytest.mark.slow
def test_compressed_stdin_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    result = shell(mirror, "echo hello | gzip | mirror import - back", code=3)
    assert "stdin is compressed with gzip" in result.err


@pytest.mark.slow
def test_truncated_stdin_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    saved(tmp_path, oci_archive(AMD64, NAME))
    result = shell(mirror, "head -c 3000 images.tar | mirror import - back", code=3)
    assert "stdin is truncated" in result.err
    assert not (tmp_path / "back").exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_full_disk_is_reported_before_an_archive_is_written(mirror: Mirror, tmp_path: Path, form: str) -> None:
    mirror("import", saved(tmp_path, oci_archive(AMD64, NAME)), "back")
    flags = ["--platform", "linux/amd64"] if form == "docker-archive" else []
    result = mirror("export", "back", "out.tar", "--format", form, *flags, plan="free:4000", code=1)
    assert "out.tar has 4.0 kB free, but" in result.err
    assert not list(tmp_path.glob("*out.tar*"))
    mirror("export", "back", "-", "--format", form, *flags, plan="free:4000")


@pytest.mark.slow
def test_full_disk_is_reported_before_any_blob_is_copied(mirror: Mirror, tmp_path: Path) -> None:
    saved(tmp_path, oci_archive(AMD64, NAME))
    result = mirror("import", "images.tar", "back", plan="free:1000", code=1)
    assert "1.0 kB free" in result.err
    assert blobs(tmp_path / "back") == set()


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["before", "after"])
@pytest.mark.parametrize("number", range(4))
def test_killed_export_leaves_the_old_file_or_the_new_one(
    mirror: Mirror, tmp_path: Path, plan: str, number: int
) -> None:
    mirror("import", saved(tmp_path, oci_archive(AMD64, NAME)), "back")
    mirror("export", "back", "x.tar")
    new = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(b"old")
    result = mirror.fail(f"{plan}:{number}", "export", "back", "x.tar")
    assert result.code in (0, -9)
    assert (tmp_path / "x.tar").read_bytes() in (b"old", new)
    mirror("export", "back", "x.tar")
    assert (tmp_path / "x.tar").read_bytes() == new


@pytest.mark.slow
def test_export_syncs_the_file_before_it_is_renamed(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.fs.temporary.open_nameless", lambda *_: None)  # its file has a name from the start
    mirror("import", saved(tmp_path, oci_archive(AMD64, NAME)), "back")
    mirror("export", "back", "x.tar", plan="trace:calls")
    fsync, rename, last = (tmp_path / "calls").read_text().splitlines()
    temporary = fsync.split()[1]
    assert (fsync.split()[0], Path(temporary).parent) == ("fsync", tmp_path)
    assert rename.split() == ["rename", temporary, str(tmp_path / "x.tar")]
    assert last == f"fsync {tmp_path}"


@pytest.mark.slow
@given(st.data())
@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("pack", [docker_old, docker_new])
def test_mutated_archive_never_causes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, pack: Callable[[Saved], bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    saved(folder, data.draw(mutated(pack(Saved(1, "a:1", sizes=[100])))))
    result = Mirror(folder).run(Mirror(folder).command("import", "images.tar", "back"))
    assert result.code in (0, 2, 3)
    check_manners(result)
    if (folder / "back").exists():
        assert_whole(folder / "back")


# Referrers

SIGNATURE = images.artifact("a/signature", images.Blob.of(b"signed", "x/y"), subject=AMD64.subject())
COSIGNED = images.artifact("c/d", images.Blob.of(b"cosigned", "x/y"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a layout with two images; the first has an OCI and a cosign signature."""
    folder = tmp_path_factory.mktemp("signed")
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        MULTI.publish(registry, "team/app", "v1")
        SIGNATURE.publish(registry, "team/app", None)
        COSIGNED.publish(registry, "team/app", images.cosign_tag(MULTI, "sig"))
        DOCKER.publish(registry, "team/other", "v1")
        Mirror(folder)("pull", f"{registry.host}/team/app:v1", f"{registry.host}/team/other:v1", "--all")
        yield folder / "layout"


@pytest.mark.slow
def test_referrers_are_exported_and_imported(mirror: Mirror, signed: Path, tmp_path: Path) -> None:
    for step in (("export", signed, "one.tar", "app:v1"), ("import", "one.tar", "back", "app:v1")):
        result = mirror(*step, "--json").json
        assert [(image["digest"], image["referrers"]["count"]) for image in result["images"]] == [(MULTI.root, 2)]
    assert blobs(tmp_path / "back") >= root(MULTI) | root(SIGNATURE) | root(COSIGNED)
    assert not blobs(tmp_path / "back") & set(DOCKER.manifests)
    assert mirror("verify", "back", "--fail-on", "warning").code == 0
    assert "2 referrers" in mirror("ls", "back").out


@pytest.mark.slow
def test_referrers_are_renamed_with_their_image(mirror: Mirror, signed: Path, tmp_path: Path) -> None:
    mirror("export", signed, "one.tar", "app:v1", "--as", "quay.io/x/y:v2")
    mirror("import", "one.tar", "back")
    assert {name.rpartition(":")[0] for name in names(tmp_path / "back")} == {"quay.io/x/y"}
    assert len(names(tmp_path / "back")) == 3
    mirror("import", "one.tar", "again", "y:v2", "--as", "quay.io/z")
    assert {name.rpartition(":")[0] for name in names(tmp_path / "again")} == {"quay.io/z"}
    assert len(names(tmp_path / "again")) == 3


@pytest.mark.slow
def test_signatures_do_not_count_as_images(mirror: Mirror, signed: Path) -> None:
    assert mirror("verify", signed).err.splitlines()[-1].startswith(f"{signed}: ok. Content: 2 images, 2 referrers, ")
    for step, past in ((("export", signed, "all.tar"), "exported"), (("import", "all.tar", "back"), "imported")):
        assert mirror(*step).err.splitlines()[-1].startswith(f"{past} 2 images, 4 platforms, 2 referrers: ")
    assert "Content: 2 images, 2 referrers, " in mirror("verify", "all.tar").err


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    ["export {0} x.tar {1} --format docker-archive --platform linux/amd64", "copy oci:{0}:{1} docker-archive:x.tar"],
)
def test_docker_archive_warns_about_omitted_referrers(mirror: Mirror, signed: Path, line: str) -> None:
    names_of = [image["name"] for image in mirror("ls", signed, "--json").json["images"]]
    app, other = (next(name for name in names_of if end in name) for end in ("app:", "other:"))
    platform = [] if "--platform" in line else ["--platform", "linux/amd64"]
    said = [mirror(*line.format(signed, name).split(), *platform).err for name in (app, other)]
    assert "2 referrers of these images stay out: docker has no place for them." in said[0]
    assert "stay out" not in said[1]


@pytest.mark.slow
def test_no_referrers_exports_the_image_without_signatures(mirror: Mirror, signed: Path, tmp_path: Path) -> None:
    assert "export it with --no-referrers" in mirror("export", signed, "x.tar", "app:v1").err
    assert mirror("export", signed, "x.tar", "app:v1", "--no-referrers").err.count("\n") == 1
    mirror("import", "x.tar", "alone")
    assert len(names(tmp_path / "alone")) == 1
    assert "exported 2 images, 4 platforms: " in mirror("export", signed, "x.tar", "--no-referrers").err


@pytest.mark.parametrize("line", ["export {} x.tar.gz", "export {} x.TGZ", "copy oci:{} oci-archive:x.tar.zst"])
def test_file_name_of_a_compressed_archive_is_refused(mirror: Mirror, signed: Path, tmp_path: Path, line: str) -> None:
    said = mirror(*line.format(signed).split(), code=2).err
    assert "would not be compressed" in said
    assert f"> {line.rsplit(maxsplit=1)[-1].rpartition(':')[2]}" in said
    assert list(tmp_path.glob("x.*")) == []


@pytest.mark.slow
def test_referrer_given_as_an_argument_is_counted_once(mirror: Mirror, signed: Path) -> None:
    about = next(name for name in names(signed) if name.endswith(".sig"))
    assert " 1 image, 2 platforms, 2 referrers: " in mirror("export", signed, "x.tar", "app:v1", about).err
    assert " 1 image: " in mirror("export", signed, "x.tar", about).err  # without the image that it signs


@pytest.mark.slow
def test_image_is_exported_without_an_unreadable_signature(mirror: Mirror, signed: Path, tmp_path: Path) -> None:
    shutil.copytree(signed, tmp_path / "layout")
    blob_path(tmp_path / "layout", COSIGNED.root).write_bytes(b"{}")
    result = mirror("export", "layout", "one.tar", "app:v1", code=4)
    assert "is complete, but may lack referrers" in result.err
    mirror("import", "one.tar", "back")
    assert blobs(tmp_path / "back") >= root(MULTI) | root(SIGNATURE)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "gone"])
@pytest.mark.parametrize("command", ["export", "import"])
def test_image_is_moved_without_a_corrupt_or_missing_signature(
    mirror: Mirror, signed: Path, tmp_path: Path, command: str, damage: str
) -> None:
    shutil.copytree(signed, tmp_path / "layout")
    path = blob_path(tmp_path / "layout", images.digest_of(b"cosigned"))
    path.write_bytes(b"cosigneD") if damage == "flipped" else path.unlink()
    target = "one.tar" if command == "export" else "back"
    if command == "import":
        subprocess.run(["tar", "-C", "layout", "-cf", "all.tar", "."], cwd=tmp_path, check=True)
    result = mirror(command, "layout" if command == "export" else "all.tar", target, "app:v1", code=4)
    assert "is complete, but may lack referrers" in result.err
    if command == "export":
        mirror("import", "one.tar", "back")
    assert blobs(tmp_path / "back") >= root(MULTI) | root(SIGNATURE)
    assert not any(name.endswith(".sig") for name in names(tmp_path / "back"))


@pytest.mark.slow
def test_referrers_are_listed_before_their_image(mirror: Mirror, signed: Path, tmp_path: Path) -> None:
    """A program that reads the list in order never finds an image before its signatures."""
    mirror("export", signed, "one.tar", "app:v1")
    mirror("import", "one.tar", "back", "app:v1")
    for listed in (
        json.loads(unpacked((tmp_path / "one.tar").read_bytes())["index.json"])["manifests"],
        entries(tmp_path / "back"),
    ):
        assert listed[-1]["digest"] == MULTI.root


@pytest.mark.slow
def test_referrers_of_an_image_without_a_repository_are_renamed_with_it(mirror: Mirror, tmp_path: Path) -> None:
    tag = images.cosign_tag(AMD64, "sig")
    layouts.write(tmp_path / "layout", AMD64, ref="v1")
    for digest, data in COSIGNED.blobs.items() | {COSIGNED.root: COSIGNED.data}.items():
        layouts.add(tmp_path / "layout", digest, data)
    both = [(AMD64, "v1"), (COSIGNED, tag)]
    layouts.write_index(
        tmp_path / "layout", [{**one.descriptor(), "annotations": {REF_NAME: name}} for one, name in both]
    )
    mirror("export", "layout", "one.tar", "v1", "--as", "quay.io/x/y:v2")
    mirror("import", "one.tar", "back", "y:v2")
    assert sorted(names(tmp_path / "back")) == [f"quay.io/x/y:{tag}", "quay.io/x/y:v2"]
    mirror("copy", "oci:layout:v1", "oci:other:v3")
    assert sorted(entry["annotations"][REF_NAME] for entry in entries(tmp_path / "other")) == [tag, "v3"]


def test_docker_archive_has_images_and_no_referrers(mirror: Mirror, signed: Path, tmp_path: Path) -> None:
    result = mirror("export", signed, "all.tar", "--format", "docker-archive", "--platform", "linux/amd64", "--json")
    assert len(result.json["images"]) == 2
    listed = json.loads(unpacked((tmp_path / "all.tar").read_bytes())["manifest.json"])
    assert [item["RepoTags"][0].partition("/")[2] for item in listed] == ["team/app:v1", "team/other:v1"]


def test_verify_reports_a_file_that_is_not_a_tar_archive(mirror: Mirror, tmp_path: Path) -> None:
    saved(tmp_path, b"hello\n" * 900)
    result = mirror("verify", "images.tar", "--json", "--junit", "junit.xml", code=3)
    assert [finding["kind"] for finding in result.json["findings"]] == ["broken-archive"]
    assert "broken-archive" in (tmp_path / "junit.xml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["verify a.tar --level layers", "import a.tar layout", "ls a.tar", "copy a.tar oci:layout"]
)
def test_small_archive_with_many_links_is_unpacked_once(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A layer that is unpacked three times exceeds the limit."""
    monkeypatch.setattr(decompress, "FREE", 8 << 20)
    files, links = tools.docker_24_linked(bytes(3 << 20), 80)
    (tmp_path / "a.tar").write_bytes(packed(files, links=links))
    result = mirror(*command.split())
    assert "1 image" in result.out + result.err
    assert "warning" not in result.err


@pytest.mark.slow
def test_layers_of_an_archive_share_the_limit_of_what_is_unpacked(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompress, "FREE", 8 << 20)
    contents = [bytes([number]) * (3 << 20) for number in range(3)]
    layers = {f"{number}.tar": gzip.compress(content) for number, content in enumerate(contents)}
    config = images.encode({"rootfs": {"type": "layers", "diff_ids": [images.digest_of(one) for one in contents]}})
    listed = encode_list([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": list(layers)}])
    (tmp_path / "a.tar").write_bytes(packed({**layers, "c.json": config, "manifest.json": listed}))
    assert "2.tar and the layers before it unpack to more than" in mirror("import", "a.tar", "layout", code=3).err
    assert not (tmp_path / "layout/index.json").exists()
