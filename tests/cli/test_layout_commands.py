"""Tests of ls, inspect and rm."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror, assert_whole, blob_path, blobs, names, tree
from tests.support.registry import EmbeddedRegistry, serving

SHARED = images.layer(1, 2000)
RUNS = {"Entrypoint": ["run.sh"], "Cmd": ["serve"]}
CONFIG = images.config("linux", "amd64", layers=[SHARED], created="2017-09-21T20:56:10Z", config=RUNS)
AMD64 = images.manifest(CONFIG, [SHARED], images.platform_of("linux/amd64"))
ARM = images.image("linux/arm/v7", images.layer(2, 400))
MULTI = images.index([AMD64, ARM, images.attestation(AMD64)])
SINGLE = images.image("linux/amd64", images.layer(3, 300), SHARED)
CHART = images.artifact("application/vnd.example.chart", images.Blob.of(b"chart", "text/plain"))


@dataclass(frozen=True)
class Stock:
    folder: Path
    registry: EmbeddedRegistry
    multi: str
    single: str
    chart: str


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        for repo, image in (("multi", MULTI), ("single", SINGLE), ("chart", CHART)):
            image.publish(registry, repo, "v1")
        full = [f"{registry.host}/{repo}:v1" for repo in ("multi", "single", "chart")]
        Mirror(folder)("pull", *full, "--all")
        yield Stock(folder / "layout", registry, *full)


@pytest.fixture
def layout(stock: Stock, tmp_path: Path) -> Path:
    """Return a copy of the layout that a test may change."""
    shutil.copytree(stock.folder, tmp_path / "layout")
    return tmp_path / "layout"


# ls


@pytest.mark.slow
def test_ls_prints_a_table(mirror: Mirror, stock: Stock) -> None:
    result = mirror("ls", stock.folder)
    head, *rows = result.lines
    assert {"IMAGE", "DIGEST", "PLATFORMS", "SIZE"} == set(head.split())
    size = sum(map(len, MULTI.blobs.values())) / 1000
    (row,) = [row for row in rows if stock.multi in row]
    assert all(text in row for text in (MULTI.root[7:19], "linux/amd64, linux/arm/v7", f"{size:.1f} kB"))
    assert {line.index(text) for line, text in ((head, "PLATFORMS"), (row, "linux/amd64"))} == {head.index("PLATFORMS")}
    assert "3 images" in result.err


def test_ls_prints_json(mirror: Mirror, stock: Stock) -> None:
    document = mirror("ls", stock.folder, "--json").json
    assert document["schema"] == "mirror.ls/1"
    found = {image["name"]: image for image in document["images"]}
    assert found[stock.multi]["digest"] == MULTI.root
    assert found[stock.multi]["platforms"] == ["linux/amd64", "linux/arm/v7"]
    assert found[stock.multi]["size"] == sum(map(len, MULTI.blobs.values()))
    assert found[stock.single]["platforms"] == ["linux/amd64"]
    assert found[stock.chart]["platforms"] == []
    everything = {**MULTI.blobs, **SINGLE.blobs, **CHART.blobs}
    assert document["size"] == sum(map(len, everything.values()))


def test_ls_shows_a_broken_image_among_the_others(mirror: Mirror, stock: Stock, layout: Path) -> None:
    blob_path(layout, MULTI.root).unlink()
    result = mirror("ls", "layout")
    (row,) = [row for row in result.lines if stock.multi in row]
    assert "broken" in row
    assert any(stock.single in row and "linux/amd64" in row for row in result.lines)
    document = mirror("ls", "layout", "--json").json
    assert [bool(image["problem"]) for image in document["images"]].count(True) == 1


def test_quiet_ls_prints_only_names(mirror: Mirror, stock: Stock) -> None:
    result = mirror("ls", stock.folder, "-q")
    assert (result.lines, result.err) == ([stock.chart, stock.multi, stock.single], "")
    assert mirror("ls", stock.folder, "-q", "--json").json == mirror("ls", stock.folder, "--json").json


def test_verbose_ls_prints_complete_digests(mirror: Mirror, stock: Stock) -> None:
    assert mirror("ls", stock.folder, "-v").out.count("sha256:") == 3
    assert MULTI.root in mirror("ls", stock.folder, "-v").out


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_ls_of_an_archive(mirror: Mirror, stock: Stock, form: str) -> None:
    mirror("export", stock.folder, "images.tar", stock.single, "--format", form)
    result = mirror("ls", "images.tar")
    assert result.lines[1].split()[0] == stock.single
    assert result.err.startswith("images.tar: 1 image, ")


def test_ls_of_no_images_is_empty(mirror: Mirror, layout: Path) -> None:
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    assert mirror("ls", "layout", "--json").json["images"] == []


# Invalid layouts


COMMANDS = [("ls",), ("verify",), ("inspect",), ("rm", "x"), ("push", "127.0.0.1:9")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_missing_directory_is_a_usage_error(mirror: Mirror, command: tuple[str, ...]) -> None:
    verb, *rest = command
    assert "nowhere" in mirror(verb, "./nowhere", *rest, code=2).err


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_invalid_layout_exits_with_3(mirror: Mirror, layout: Path, command: tuple[str, ...], name: str) -> None:
    verb, *rest = command
    (layout / name).write_text("{")
    before = tree(layout)
    result = mirror(verb, "./layout", *rest, code=3)
    assert name in result.err + result.out
    assert tree(layout) == before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_directory_that_is_not_a_layout_is_unchanged(mirror: Mirror, tmp_path: Path, command: tuple[str, ...]) -> None:
    verb, *rest = command
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.jpg").touch()
    mirror(verb, "./photos", *rest, code=3)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


def test_ls_of_a_directory_that_is_not_a_layout_asks_about_the_directory(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    error, hint = mirror("ls", "./photos", code=3).err.splitlines()
    assert error.startswith("error: photos is not an OCI image layout: it has no ")
    assert hint == "hint: Is this the right directory?"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_file_that_is_not_an_archive_is_refused(mirror: Mirror, tmp_path: Path, command: tuple[str, ...]) -> None:
    verb, *rest = command
    (tmp_path / "file").touch()
    archives_too = ("verify", "ls", "inspect", "push")
    result = mirror(verb, "./file", *rest, code=3 if verb in archives_too else 2)
    said = "is not a tar archive" if verb in archives_too else "There is no directory 'file'."
    assert said in result.out + result.err
    assert (tmp_path / "file").read_bytes() == b""


# inspect


def test_inspect_shows_an_image(mirror: Mirror, stock: Stock) -> None:
    result = mirror("inspect", stock.folder, stock.multi)
    wanted = [MULTI.root, AMD64.root, ARM.root, CONFIG.digest, SHARED.digest, "linux/arm/v7", "run.sh", "serve"]
    assert [text for text in wanted if text not in result.out] == []


def test_inspect_of_a_registry_fetches_no_layer(mirror: Mirror, stock: Stock) -> None:
    stock.registry.clear_log()
    local = mirror("inspect", stock.folder, stock.multi, "--json").json
    remote = mirror("inspect", stock.multi, "--json").json
    assert remote["schema"] == local["schema"] == "mirror.inspect/2"
    layers = {layer["digest"] for each in remote["images"][0]["manifests"] for layer in each["layers"]}
    assert layers == {digest for digest in MULTI.blobs if digest not in configs()}
    assert not any(stock.registry.count("GET", f"/blobs/{digest}") for digest in layers)
    for document in (local, remote):
        document["images"][0].pop("annotations")
    assert (local["images"][0].pop("referrers"), remote["images"][0].pop("referrers")) == ([], None)
    assert local == remote


def configs() -> set[str]:
    documents = [json.loads(data) for data, _ in MULTI.manifests.values()]
    return {document["config"]["digest"] for document in documents if "config" in document}


def test_inspect_shows_every_image_of_a_layout(mirror: Mirror, stock: Stock) -> None:
    document = mirror("inspect", stock.folder, "--json").json
    assert {image["name"] for image in document["images"]} == {stock.multi, stock.single, stock.chart}


@pytest.mark.parametrize("where", ["layout", "registry"])
def test_raw_prints_the_exact_manifest(mirror: Mirror, stock: Stock, where: str) -> None:
    what = [stock.folder, stock.multi] if where == "layout" else [stock.multi]
    result = mirror("inspect", *what, "--raw")
    assert (result.raw, result.err) == (MULTI.data, "")


@pytest.mark.parametrize("where", ["layout", "registry"])
def test_digest_prints_only_the_digest(mirror: Mirror, stock: Stock, where: str) -> None:
    what = [stock.folder, stock.multi] if where == "layout" else [stock.multi]
    result = mirror("inspect", *what, "--digest")
    assert (result.out, result.err) == (f"{MULTI.root}\n", "")


@pytest.mark.parametrize("flag", ["--raw", "--digest"])
def test_raw_and_digest_need_a_single_image(mirror: Mirror, stock: Stock, flag: str) -> None:
    assert stock.single in mirror("inspect", stock.folder, flag, code=2).err


def test_raw_and_json_cannot_be_combined(mirror: Mirror, stock: Stock) -> None:
    error = mirror("inspect", stock.folder, stock.multi, "--raw", "--json", code=2).json["error"]
    assert error["message"] == "--raw, --digest and --json cannot be combined."


def test_inspect_shows_no_command_that_other_tools_read_differently(mirror: Mirror, tmp_path: Path) -> None:
    config = images.config("linux", "amd64", layers=[SHARED], config=RUNS, Config={"Cmd": ["other"]})
    layouts.write(tmp_path / "layout", images.manifest(config, [SHARED]))
    (manifest,) = mirror("inspect", "./layout", "--json").json["images"][0]["manifests"]
    assert manifest["settings"] == {"problem": "the config: some readers take the key 'Config' for 'config'."}
    assert manifest["platform"] == "linux/amd64"


def test_inspect_of_a_missing_image_is_a_usage_error(mirror: Mirror, stock: Stock) -> None:
    assert stock.multi in mirror("inspect", stock.folder, "nothing", code=2).err
    mirror("inspect", f"{stock.registry.host}/nothing:v1", code=2)


def test_inspect_of_a_corrupt_image_exits_with_3(mirror: Mirror, stock: Stock, layout: Path) -> None:
    blob_path(layout, MULTI.root).write_bytes(bytes(len(MULTI.data)))
    result = mirror("inspect", "layout", stock.multi, code=3)
    assert result.err.startswith(f"error: {MULTI.root} from layout does not match its digest: ")
    assert result.out == ""


def test_name_of_a_directory_means_the_layout_and_not_the_image(mirror: Mirror, stock: Stock, tmp_path: Path) -> None:
    shutil.copytree(stock.folder, tmp_path / "redis")
    assert len(mirror("inspect", "redis", "--json").json["images"]) == 3
    mirror("inspect", "docker://127.0.0.1:9/redis", "--retries", 0, code=1)


# rm


@pytest.mark.parametrize("form", [lambda digest: digest[7:19], lambda digest: digest[:19]])
def test_rm_accepts_several_images_and_the_short_digests_of_ls(
    mirror: Mirror, stock: Stock, layout: Path, form: Callable[[str], str]
) -> None:
    assert MULTI.root[7:19] in mirror("ls", "layout").out
    result = mirror("rm", "layout", form(MULTI.root), stock.single, stock.single)
    assert result.lines == [f"{stock.multi}@{MULTI.root}", f"{stock.single}@{SINGLE.root}"]
    assert result.err.startswith("removed 2 images: ")
    assert names(layout) == [stock.chart]
    assert blobs(layout) == {*CHART.blobs, CHART.root}


def test_digest_that_is_shorter_than_in_ls_is_refused(mirror: Mirror, stock: Stock, layout: Path) -> None:
    assert "has no image" in mirror("rm", "layout", MULTI.root[7:18], code=2).err


def test_rm_removes_all_images_or_none(mirror: Mirror, stock: Stock, layout: Path) -> None:
    before = tree(layout)
    assert "has no image 'nothing'" in mirror("rm", "layout", stock.multi, "nothing", code=2).err
    assert tree(layout) == before


def test_rm_of_a_mistyped_directory_says_how_it_was_read(mirror: Mirror, stock: Stock, layout: Path) -> None:
    before = tree(layout)
    _, hint = mirror("rm", "layuot", stock.multi, code=2).err.splitlines()
    assert hint.startswith("hint: 'layuot' was read as an image of ./layout; for a directory, write ./layuot. It has: ")
    assert tree(layout) == before


# The default layout


def test_commands_use_the_default_layout(mirror: Mirror, stock: Stock, layout: Path) -> None:
    """All but rm, which changes the layout and comes last."""
    assert mirror("ls").lines == mirror("ls", "layout").lines
    assert mirror("verify").lines == mirror("verify", "layout").lines
    assert mirror("inspect").lines == mirror("inspect", "layout").lines
    assert mirror("prune").err.startswith("layout: nothing to prune.")
    mirror("prune", "--delete")
    mirror("rm", stock.chart)
    assert names(layout) == [stock.multi, stock.single]
    assert mirror("record").out == mirror("record", "layout").out
    mirror("export", "layout", "images.tar")
    shutil.rmtree(layout)
    mirror("import", "images.tar")
    assert names(layout) == [stock.multi, stock.single]


@pytest.mark.parametrize("command", ["ls", "verify", "inspect", "record", "prune", "serve"])
def test_missing_default_layout_is_a_usage_error(mirror: Mirror, command: str) -> None:
    err = mirror(command, code=2).err
    assert "There is no " in err
    assert "layout" in err


# rm of one image


@pytest.mark.slow
def test_rm_keeps_blobs_of_other_images(mirror: Mirror, stock: Stock, layout: Path) -> None:
    result = mirror("rm", "layout", stock.multi)
    assert result.lines == [f"{stock.multi}@{MULTI.root}"]
    assert names(layout) == [stock.chart, stock.single]
    assert blobs(layout) == {*SINGLE.blobs, SINGLE.root, *CHART.blobs, CHART.root}
    assert mirror("verify", "layout", "--json").json["findings"] == []


def test_rm_prints_json(mirror: Mirror, stock: Stock, layout: Path) -> None:
    document = mirror("rm", "layout", stock.multi, "--json").json
    gone = {**MULTI.blobs, **{digest: data for digest, (data, _) in MULTI.manifests.items()}}
    gone.pop(SHARED.digest)
    assert document == {
        "schema": "mirror.rm/3",
        "path": "layout",
        "images": [{"name": stock.multi, "digest": MULTI.root, "referrers": []}],
        "deleted": {"blobs": len(gone), "size": sum(map(len, gone.values()))},
        "kept": 1,
    }


@pytest.mark.parametrize("form", ["{}@" + MULTI.root, MULTI.root])
def test_rm_accepts_a_digest(mirror: Mirror, stock: Stock, layout: Path, form: str) -> None:
    mirror("rm", "layout", form.format(stock.multi.rpartition(":")[0]))
    assert stock.multi not in names(layout)


@pytest.mark.slow
def test_rm_of_a_digest_with_several_names_names_them(mirror: Mirror, stock: Stock, layout: Path) -> None:
    pinned = f"{stock.single.rpartition(':')[0]}@{SINGLE.root}"
    mirror("pull", pinned, "--all")
    before = tree(layout)
    for text in (SINGLE.root, SINGLE.root[7:19]):
        result = mirror("rm", "layout", text, code=2)
        assert "under 2 names" in result.err
        assert f"mirror rm layout {stock.single} {pinned}" in result.err.replace(f"{layout}", "layout")
    assert tree(layout) == before
    mirror("rm", "layout", pinned)
    assert stock.single in names(layout)
    mirror("rm", "layout", SINGLE.root)
    assert stock.single not in names(layout)


@pytest.mark.slow
def test_rm_of_the_last_image_leaves_an_empty_layout(mirror: Mirror, stock: Stock, layout: Path) -> None:
    for name in (stock.chart, stock.multi, stock.single):
        mirror("rm", "layout", name)
    assert (names(layout), blobs(layout)) == ([], set())
    mirror("verify", "layout", code=3)
    mirror("pull", stock.single, "--all")
    assert_whole(layout)


@pytest.mark.slow
def test_rm_keeps_an_image_that_has_another_name(mirror: Mirror, stock: Stock, layout: Path) -> None:
    mirror("pull", f"{stock.single.rpartition(':')[0]}@{SINGLE.root}", "--all")
    mirror("rm", "layout", stock.single)
    assert {*SINGLE.blobs, SINGLE.root} <= blobs(layout)
    mirror("verify", "layout")


def test_rm_is_refused_if_another_image_is_broken(mirror: Mirror, stock: Stock, layout: Path) -> None:
    blob_path(layout, SINGLE.root).unlink()
    before = tree(layout)
    assert SINGLE.root[7:] in mirror("rm", "layout", stock.multi, code=3).err
    assert tree(layout) == before


@pytest.mark.parametrize("node", [MULTI.root, AMD64.root, SHARED.digest])
def test_broken_image_can_be_removed(mirror: Mirror, stock: Stock, layout: Path, node: str) -> None:
    blob_path(layout, node).unlink()
    mirror("rm", "layout", stock.multi)
    assert stock.multi not in names(layout)
    assert {*SINGLE.blobs, SINGLE.root} - {node} <= blobs(layout)


def test_unknown_image_is_a_usage_error(mirror: Mirror, stock: Stock, layout: Path) -> None:
    before = tree(layout)
    assert stock.multi in mirror("rm", "layout", "nothing", code=2).err
    assert tree(layout) == before


def test_ambiguous_image_is_a_usage_error(mirror: Mirror, layout: Path) -> None:
    before = tree(layout)
    mirror("rm", "layout", "v1", code=2)
    assert tree(layout) == before


def test_rm_keeps_unknown_files(mirror: Mirror, stock: Stock, layout: Path) -> None:
    (layout / "README").touch()
    (layout / "blobs/sha256/notes.txt").touch()
    mirror("rm", "layout", stock.multi)
    assert (layout / "README").exists()
    assert (layout / "blobs/sha256/notes.txt").exists()


@pytest.mark.slow
def test_rm_of_a_sparse_image_keeps_the_others(mirror: Mirror, stock: Stock, layout: Path) -> None:
    mirror("pull", stock.multi, "--platform", "linux/arm/v7", "--sparse")
    mirror("rm", "layout", stock.multi)
    assert mirror("verify", "layout", stock.single, stock.chart, "--json").json["verdict"] == "ok"
