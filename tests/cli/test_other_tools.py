"""Tests of the commands on layouts and archives that other tools wrote."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support import images, layouts, tools
from tests.support.archives import Saved, archive, docker_archive, member, packed, place, sparse_member
from tests.support.command import Json, Mirror, blobs, entries, names
from tests.support.images import Blob, Image
from tests.support.registry import EmbeddedRegistry, serving

NAME = "quay.io/team/app:v1"


# Layers that docker cannot unpack


@pytest.mark.parametrize("command", ["export", "copy"])
def test_image_with_encrypted_layers_is_not_exported_for_docker(mirror: Mirror, tmp_path: Path, command: str) -> None:
    layouts.write(tmp_path / "layout", tools.skopeo_1_9_encrypted(), name=NAME)
    target = ("a.tar", "--format", "docker-archive") if command == "export" else ("docker-archive:a.tar",)
    result = mirror(command, "oci:layout" if command == "copy" else "layout", *target, code=2)
    assert f"{NAME} has encrypted layers, so docker cannot load it." in result.err
    assert "skopeo copy --decryption-key" in result.err
    assert not (tmp_path / "a.tar").exists()
    mirror("export", "layout", "a.tar")


OTHERS: dict[str, tuple[Image, str]] = {
    "a signature": (
        images.image("linux/amd64", Blob.of(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json", "sha256:0")),
        "has a layer of type application/vnd.dev.cosign.simplesigning.v1+json, which docker cannot load",
    ),
    "a policy bundle": (tools.opa_1_0_bundle(), "is not an image, so docker cannot load it"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_artifact_with_the_config_type_of_images_is_not_exported_for_docker(
    mirror: Mirror, tmp_path: Path, what: str
) -> None:
    image, words = OTHERS[what]
    layouts.write(tmp_path / "layout", image, name=NAME)
    result = mirror("export", "layout", "a.tar", "--format", "docker-archive", code=2)
    assert words in result.err
    assert not (tmp_path / "a.tar").exists()


# Archives and layouts with some of the platforms of an index

AMD64 = images.image("linux/amd64", images.layer(1, 3000), images.layer(2, 500))
ARM = images.image("linux/arm64", images.layer(3, 900), images.layer(2, 500))
S390X = images.image("linux/s390x", images.layer(4, 700), images.layer(2, 500))
WHOLE = images.index([AMD64, images.attestation(AMD64), ARM, images.attestation(ARM), S390X])
FORMS = pytest.mark.parametrize("form", ["archive", "directory"])
WRITERS = pytest.mark.parametrize("manifests", [False, True], ids=["docker", "nerdctl"])


def place_saved(folder: Path, form: str, files: dict[str, bytes]) -> str:
    """Write the files as an archive, or unpacked to a directory; return its name."""
    if form == "directory":
        return tools.unpack(folder / "saved", files).name
    (folder / "saved.tar").write_bytes(packed(files))
    return "saved.tar"


def place_one_platform(folder: Path, form: str, manifests: bool) -> str:
    """Write what docker or nerdctl saves of one platform; nerdctl has the manifests of the others, too."""
    return place_saved(folder, form, tools.docker_28_containerd_save(WHOLE, NAME, AMD64, manifests=manifests))


def findings(mirror: Mirror, where: str, code: int = 0) -> list[Json]:
    found: list[Json] = mirror("verify", where, "--json", code=code).json["findings"]
    return found


@FORMS
@WRITERS
def test_platforms_that_were_not_saved_are_absent_once_each(
    mirror: Mirror, tmp_path: Path, form: str, manifests: bool
) -> None:
    where = place_one_platform(tmp_path, form, manifests)
    found = findings(mirror, where)
    others = {digest for digest in WHOLE.manifests if digest not in (WHOLE.root, AMD64.root)}
    assert sorted(one["subject"] for one in found) == sorted(others)
    assert {(one["kind"], one["severity"]) for one in found} == {("absent", "warning")}
    said = "except for its manifest" if manifests else "a manifest that was not saved"  # nothing says that it was meant
    assert [one["message"] for one in found if said not in one["message"]] == []
    assert mirror("verify", where, "--level", "layers").code == 0


@FORMS
@WRITERS
def test_platforms_that_were_saved_are_copied_whatever_the_command(
    mirror: Mirror, tmp_path: Path, form: str, manifests: bool
) -> None:
    where = place_one_platform(tmp_path, form, manifests)
    if form == "archive":
        assert "1 of the 5 manifests of its index; the others are recorded" in mirror("import", where, "copied").err
    else:
        mirror("copy", where, "oci:copied")
        mirror("export", where, "a.tar")
        assert {one["kind"] for one in findings(mirror, "a.tar")} == {"absent"}
        mirror("export", where, "b.tar", "--format", "docker-archive")
        assert findings(mirror, "b.tar") == []
    assert entries(tmp_path / "copied")[0]["annotations"]["dev.oci-mirror.sparse"] == AMD64.root
    assert blobs(tmp_path / "copied") == {WHOLE.root, AMD64.root, *AMD64.blobs}
    assert {one["kind"] for one in findings(mirror, "copied")} == {"absent"}
    with serving(EmbeddedRegistry(strict=False)) as lenient:
        pushed = mirror("push", where, lenient.host)
        assert "1 of the 5 manifests of its index; the others are not pushed" in pushed.err
        assert lenient.tags("team/app") == {"v1": WHOLE.root}


@WRITERS
def test_platforms_that_were_not_saved_do_not_stop_the_care_of_a_layout(
    mirror: Mirror, tmp_path: Path, manifests: bool
) -> None:
    folder = tmp_path / place_one_platform(tmp_path, "directory", manifests)
    before = blobs(folder)
    (folder / place(S390X.root)).parent.joinpath("0" * 64).write_bytes(b"orphan")
    if not manifests:  # the orphan may belong to a platform whose manifest was lost
        assert "is missing" in mirror("prune", folder, "--delete", code=3).err
        (folder / place(S390X.root)).parent.joinpath("0" * 64).unlink()
    mirror("prune", folder, "--delete")
    assert blobs(folder) == before
    assert "has only some of its platforms" in mirror("record", folder, code=2).err
    with serving(EmbeddedRegistry()) as registry:
        WHOLE.publish(registry, "team/app", "v1")
        layer = max(AMD64.blobs, key=lambda digest: len(AMD64.blobs[digest]))
        (folder / place(layer)).write_bytes(b"damaged")
        mirror("verify", folder, "--repair", "--from", registry.host)
        assert blobs(folder) == before
        assert not any(S390X.root in seen.path for seen in registry.requests)
    mirror("rm", folder, NAME)


@FORMS
@pytest.mark.parametrize("what", ["config", "layer"])
def test_platform_of_which_a_part_is_missing_is_damaged(mirror: Mirror, tmp_path: Path, form: str, what: str) -> None:
    files = tools.docker_28_containerd_save(WHOLE, NAME, AMD64, ARM)
    document = json.loads(ARM.data)
    missing = document["config"]["digest"] if what == "config" else document["layers"][0]["digest"]
    del files[place(missing)]
    where = place_saved(tmp_path, form, files)
    errors = [one for one in findings(mirror, where, code=3) if one["severity"] == "error"]
    assert [(one["kind"], one["subject"]) for one in errors] == [("missing", missing)]
    command = ("import", where, "copied") if form == "archive" else ("copy", where, "oci:copied")
    assert missing[7:] in mirror(*command, code=3).err


@FORMS
def test_index_without_any_of_its_platforms_is_damaged(mirror: Mirror, tmp_path: Path, form: str) -> None:
    where = place_saved(tmp_path, form, tools.docker_28_containerd_save(WHOLE, NAME))
    assert {one["kind"] for one in findings(mirror, where, code=3) if one["severity"] == "error"} == {"missing"}
    assert "lacks" in (result := mirror("push", where, "127.0.0.1:9", code=3)).err or "is missing" in result.err


@WRITERS
@pytest.mark.parametrize("first", [False, True])
def test_platform_that_one_image_may_lack_is_missing_from_another(
    mirror: Mirror, tmp_path: Path, first: bool, manifests: bool
) -> None:
    """The other image is damaged, in any order of the entries."""
    where = place_one_platform(tmp_path, "directory", manifests)
    alone, name = (ARM if manifests else images.index([ARM])), "quay.io/team/arm:v1"
    layouts.add(tmp_path / where, alone.root, alone.data)
    both = [*entries(tmp_path / where), {**alone.descriptor(), "annotations": {"io.containerd.image.name": name}}]
    layouts.write_index(tmp_path / where, both[::-1] if first else both)
    errors = [one for one in findings(mirror, where, code=3) if one["severity"] == "error"]
    assert {(one["kind"], *one["images"]) for one in errors} == {("missing", name)}


OTHER = images.image("linux/amd64", images.layer(5, 600))


def place_beside_other(folder: Path, manifests: bool) -> Path:
    """Write a layout with one platform of an index, and another image; return its path."""
    layout = folder / place_one_platform(folder, "directory", manifests)
    before = entries(layout)
    layouts.write(layout, OTHER)
    layouts.write_index(
        layout, [*before, {**OTHER.descriptor(), "annotations": {"io.containerd.image.name": "a.b/c:1"}}]
    )
    return layout


@WRITERS
def test_image_beside_one_with_absent_platforms_is_removed(mirror: Mirror, tmp_path: Path, manifests: bool) -> None:
    layout = place_beside_other(tmp_path, manifests)
    before = blobs(layout)
    mirror("rm", layout, "a.b/c:1")
    assert blobs(layout) == before - {OTHER.root, *OTHER.blobs}
    assert "nothing to prune" in mirror("prune", layout, "--delete").err
    assert {one["kind"] for one in findings(mirror, layout.name)} == {"absent"}


def test_prune_keeps_what_may_be_left_of_a_platform_without_a_manifest(mirror: Mirror, tmp_path: Path) -> None:
    layout = place_beside_other(tmp_path, manifests=False)
    layouts.add(layout, orphan := next(iter(ARM.blobs)), ARM.blobs[orphan])
    for arguments in ((), ("--delete",)):
        assert "is missing" in mirror("prune", layout, *arguments, code=3).err
    assert orphan in blobs(layout)


@pytest.mark.parametrize("what", ["layer", "index"])
def test_image_with_absent_platforms_is_repaired_from_an_equal_one(mirror: Mirror, tmp_path: Path, what: str) -> None:
    layout = place_beside_other(tmp_path, manifests=False)
    shutil.copytree(layout, tmp_path / "good")
    digest = {"layer": next(iter(AMD64.blobs)), "index": WHOLE.root}[what]
    layouts.add(layout, digest, b"x")
    mirror("verify", layout, "--repair", "--from", "good")
    assert blobs(layout) == blobs(tmp_path / "good")
    assert {one["kind"] for one in findings(mirror, layout.name)} == {"absent"}


def test_copy_replaces_a_damaged_index_of_another_tool(mirror: Mirror, tmp_path: Path) -> None:
    layout = layouts.write(tmp_path / "layout", WHOLE, name=NAME)
    shutil.copytree(layout, tmp_path / "good")
    layouts.add(layout, WHOLE.root, b"x")
    mirror("copy", "good", "oci:layout")
    assert findings(mirror, "layout") == []


def test_platform_that_disappears_from_a_pulled_image_is_damage(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """mirror records what it leaves out."""
    WHOLE.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    for digest in (S390X.root, *(S390X.blobs.keys() - AMD64.blobs.keys())):
        (mirror.folder / "layout" / place(digest)).unlink()
    assert [one["subject"] for one in findings(mirror, "layout", code=3)] == [S390X.root]
    assert S390X.root[7:] in mirror("copy", "layout", "oci:copied", code=3).err


# docker save by ID


def test_image_that_docker_saved_by_its_id_is_imported(mirror: Mirror, tmp_path: Path) -> None:
    saved = Saved(30)
    (tmp_path / "id.tar").write_bytes(packed(tools.docker_25_0_save_by_id(saved)))
    assert findings(mirror, "id.tar") == []
    mirror("import", "id.tar", "nameless")
    assert set(saved.layers) | {saved.config.digest} < blobs(tmp_path / "nameless")
    mirror("import", "id.tar", "named", "--as", NAME)
    assert names(tmp_path / "named") == [NAME]
    assert {one["digest"] for one in entries(tmp_path / "named")} == blobs(tmp_path / "named") - {
        *saved.layers,
        saved.config.digest,
    }
    assert findings(mirror, "named") == []


def test_several_images_that_docker_saved_by_their_ids_are_imported(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "ids.tar").write_bytes(packed(tools.docker_25_0_save_by_id(Saved(30), Saved(40))))
    assert len(mirror("import", "ids.tar", "both").lines) == 2


def test_images_that_docker_saved_by_id_and_by_name_are_imported(mirror: Mirror, tmp_path: Path) -> None:
    by_id, by_name = Saved(30), Saved(40, "docker.io/library/app:v1")
    (tmp_path / "both.tar").write_bytes(packed(tools.docker_25_0_save_by_id(by_id, by_name)))
    assert [one["kind"] for one in findings(mirror, "both.tar")] == ["orphan"]  # docker's manifest of the image by ID
    assert len(mirror("import", "both.tar", "both").lines) == 2
    for saved in (by_id, by_name):
        assert set(saved.layers) | {saved.config.digest} < blobs(tmp_path / "both")
    assert [image["name"] for image in mirror("ls", "both", "--json").json["images"]].count(by_name.tags[0]) == 1
    assert "contains 2 images" in mirror("import", "both.tar", "x", "--as", NAME, code=2).err


def test_archive_without_any_image_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "none.tar").write_bytes(packed(tools.docker_25_0_save_by_id()))
    assert [one["kind"] for one in findings(mirror, "none.tar", code=3)] == ["no-images"]
    assert "has no images" in mirror("import", "none.tar", "x", code=2).err


# An index.json that is a Docker manifest list

LIST = images.multi_arch(docker=True)


@FORMS
def test_manifest_list_as_index_json_is_read_by_every_command(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry, form: str
) -> None:
    where = place_saved(tmp_path, form, tools.ggcr_0_20_layout(LIST))
    children = {one["digest"] for one in json.loads(LIST.data)["manifests"]}
    assert findings(mirror, where) == []
    assert {one["digest"] for one in mirror("ls", where, "--json").json["images"]} == children
    mirror("copy", where, "oci:copied")
    assert {one["digest"] for one in entries(tmp_path / "copied")} == children
    mirror("push", where, f"{registry.host}/team/app")
    assert children <= {request.path.rpartition("/")[2] for request in registry.requests}


def test_pull_into_a_layout_whose_index_json_is_a_manifest_list_makes_it_an_index(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry
) -> None:
    tools.unpack(tmp_path / "layout", tools.ggcr_0_20_layout(LIST))
    AMD64.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    assert index["mediaType"] == images.OCI_INDEX
    children = json.loads(LIST.data)["manifests"]
    assert [one for one in index["manifests"] if one["digest"] != AMD64.root] == children


# Sparse members

HOLES = [(0, b"a" * 5000), (1 << 20, b"b" * 100), (3 << 20, b"end")]


@pytest.mark.parametrize("region", [HOLES, [], [(0, b"x"), (1, b"y" * 99)]], ids=["holes", "only holes", "no gap"])
def test_sparse_member_of_bsdtar_is_read_with_its_holes(
    mirror: Mirror, tmp_path: Path, region: list[tuple[int, bytes]]
) -> None:
    layer = bytearray(4 << 20)
    for start, data in region:
        layer[start : start + len(data)] = data
    image = images.image("linux/amd64", Blob.of(bytes(layer), images.OCI_LAYER, images.digest_of(layer)))
    files = layouts.files(image, NAME)
    (large,) = (name for name, content in files.items() if content == layer)
    members = [member(name, content) for name, content in files.items() if name != large]
    (tmp_path / "sparse.tar").write_bytes(archive(*sparse_member(large, len(layer), region), *members))
    assert findings(mirror, "sparse.tar") == []
    mirror("import", "sparse.tar", "copied")
    assert (tmp_path / "copied" / large).read_bytes() == layer


# Bad names


@pytest.mark.parametrize("bad", ["<none>:<none>", "MyApp:latest", "a b", "x\x1b[31m:1"])
def test_bad_name_does_not_prevent_an_import(mirror: Mirror, tmp_path: Path, bad: str) -> None:
    (tmp_path / "a.tar").write_bytes(docker_archive(Saved(50, bad)))
    assert findings(mirror, "a.tar") == []
    mirror("import", "a.tar", "back", "--as", NAME)
    assert names(tmp_path / "back") == [NAME]
    (line,) = mirror("import", "a.tar", "other").lines
    assert line.startswith("MyApp:latest@" if bad == "MyApp:latest" else "sha256:")
    assert findings(mirror, "other") == []


def test_bad_name_next_to_a_good_one_does_not_prevent_an_import(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(docker_archive(Saved(50, "<none>:<none>", "MyApp:1", "good:1")))
    assert len(mirror("import", "a.tar", "all").lines) == 2
    mirror("import", "a.tar", "back", "--as", NAME)
    assert names(tmp_path / "back") == [NAME]


def test_image_with_names_that_cannot_be_kept_is_one_image(mirror: Mirror, tmp_path: Path) -> None:
    for tags, expected in ((["a b", "good:1", "../x:1"], "docker.io/library/good:1"), (["a b", "../x:1"], None)):
        (tmp_path / "a.tar").write_bytes(docker_archive(Saved(51, *tags)))
        (image,) = mirror("verify", "a.tar", "--json").json["images"]
        assert image["name"] == expected or image["digest"]


# Names with slashes


def test_name_with_a_slash_is_shown_as_it_is_and_not_pushed_under_an_invented_one(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry
) -> None:
    tools.umoci_0_4_layout(tmp_path / "layout", AMD64, "v1.2/stable")
    assert mirror("ls", "layout", "--json").json["images"][0]["name"] == "v1.2/stable"
    for target in (registry.host, f"{registry.host}/team/app"):
        result = mirror("push", "layout", target, code=2)
        assert "'v1.2/stable' is not the name of an image" in result.err
        assert "--as some/repository:tag, or --map v1.2/stable=some/repository:tag" in result.err
    assert registry.requests == []
    (line,) = mirror("push", "layout", registry.host, "--map", "v1.2/stable=team/app:1.2").lines
    assert line == f"{registry.host}/team/app:1.2@{AMD64.root}"
    mirror("push", "layout", registry.host, "v1.2/stable", "--as", "team/other:1")
    assert registry.tags("team/other") == {"1": AMD64.root}


def test_name_with_a_slash_survives_copies(mirror: Mirror, tmp_path: Path) -> None:
    tools.umoci_0_4_layout(tmp_path / "layout", AMD64, "v1.2/stable")
    mirror("copy", "layout", "oci:copied")
    mirror("export", "copied", "a.tar")
    mirror("import", "a.tar", "back")
    (entry,) = entries(tmp_path / "back")
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1.2/stable"}
    assert (
        "does not record the repository" in mirror("export", "back", "b.tar", "--format", "docker-archive", code=2).err
    )


# Links


def link(path: Path) -> None:
    """Move a file or directory out of the layout, and put a link in its place."""
    store = path.parents[len(path.parts) - 2 - path.parts.index("layout")].parent / "store"
    store.mkdir(exist_ok=True)
    path.rename(store / path.name)
    path.symlink_to(store / path.name)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["blobs/sha256/*", "blobs/sha256", "blobs", "index.json", "oci-layout"])
def test_the_hint_for_links_has_the_command_that_copies_the_files(mirror: Mirror, tmp_path: Path, what: str) -> None:
    layouts.write(tmp_path / "layout", AMD64, name=NAME)
    for path in list((tmp_path / "layout").glob(what)):
        link(path)
    command = "tar -chC layout . | mirror import - COPY"
    assert command in mirror("verify", "layout", code=3).out
    assert f"hint: If the links are intentional, as in another tool's cache, copy the files: {command}" in (
        mirror("copy", "layout", "oci:other", code=3).err
    )
    shell = f"{command.replace('mirror', shlex.join(mirror.command())).replace('COPY', 'copy')}"
    assert mirror.run(["sh", "-c", shell]).code == 0
    assert blobs(tmp_path / "copy") == {AMD64.root, *AMD64.blobs}
    assert findings(mirror, "copy") == []


@pytest.mark.slow
def test_the_hint_for_a_link_in_an_archive_has_the_command_that_packs_the_files(mirror: Mirror, tmp_path: Path) -> None:
    tools.rules_oci_2_layout(tmp_path / "layout", AMD64)
    assert mirror.run(["tar", "-cf", "a.tar", "-C", "layout", "."]).code == 0
    command = "tar -chf ARCHIVE -C DIR ."
    assert command in mirror("import", "a.tar", "back", code=3).err
    assert command in mirror("verify", "a.tar", code=3).out
    assert mirror.run(command.replace("ARCHIVE", "b.tar").replace("DIR", "layout").split()).code == 0
    mirror("import", "b.tar", "back")
    assert findings(mirror, "back") == []
