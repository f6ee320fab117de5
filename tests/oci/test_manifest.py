"""Tests of manifests: valid ones are read, ambiguous or broken ones are refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import ContentError, InvalidContent
from mirror.oci import manifest
from mirror.oci.descriptor import INDEX_TYPES, MANIFEST_CAP
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from tests.support import images
from tests.support.images import RECORD, encode
from tests.support.strategies import THOROUGH, documents, json_values, mutated, outcome

ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
LAYER = images.layer(1, 100).descriptor()
CONFIG = images.config("linux", "amd64").descriptor()
INDEX = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": []}
IMAGE = {"schemaVersion": 2, "mediaType": images.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
TYPES = [images.OCI_INDEX, images.OCI_MANIFEST, images.DOCKER_LIST, images.DOCKER_MANIFEST]


def parse(document: object, media_type: str | None = None) -> Document:
    return manifest.parse(json.dumps(document).encode(), media_type, "it")


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in names}


# Random documents


@pytest.mark.slow
@given(documents() | json_values, st.none() | st.sampled_from(TYPES))
@THOROUGH
def test_any_json_is_a_manifest_or_a_content_error(document: Any, media_type: str | None) -> None:
    found = outcome(lambda: parse(document, media_type))
    if isinstance(found, Document):
        assert (found.media_type in INDEX_TYPES) is found.is_index
        assert not (found.manifests and found.config)
    else:
        assert isinstance(found, ContentError)
        assert len(str(found)) < 2_000


@pytest.mark.slow
@given(
    st.sampled_from([images.multi_arch().data, images.image("linux/amd64", images.layer(1, 100)).data]).flatmap(mutated)
)
@THOROUGH
def test_mutated_manifest_has_valid_links_or_is_refused(data: bytes) -> None:
    found = outcome(lambda: manifest.parse(data, None, "it"))
    for link in found.links if isinstance(found, Document) else ():
        assert Digest.parse(link.digest) == link.digest
        assert 0 <= link.size < 2**63


# Valid manifests


@pytest.mark.parametrize("media_type", [images.OCI_INDEX, images.DOCKER_LIST])
def test_links_of_an_index_are_its_children_in_order(media_type: str) -> None:
    children = [images.image(platform).descriptor() for platform in ("linux/arm64", "linux/amd64", "linux/386")]
    found = parse({**INDEX, "mediaType": media_type, "manifests": children})
    assert found.is_index
    assert [str(child.platform) for child in found.links] == ["linux/arm64", "linux/amd64", "linux/386"]


@pytest.mark.parametrize("media_type", [images.OCI_MANIFEST, images.DOCKER_MANIFEST])
def test_links_of_a_manifest_are_its_config_and_layers(media_type: str) -> None:
    found = parse({**IMAGE, "mediaType": media_type})
    assert not found.is_index
    assert [link.digest for link in found.links] == [CONFIG["digest"], LAYER["digest"]]


def test_links_of_an_artifact_manifest_are_its_blobs() -> None:
    found = parse({"mediaType": ARTIFACT, "artifactType": "a/b", "blobs": [LAYER], "subject": CONFIG})
    assert [link.digest for link in found.links] == [LAYER["digest"]]
    assert (found.artifact_type, found.subject and found.subject.digest) == ("a/b", CONFIG["digest"])


def test_artifact_manifest_may_be_empty() -> None:
    assert parse({"mediaType": ARTIFACT}).links == ()


@pytest.mark.parametrize(
    "document", [INDEX, {**IMAGE, "layers": []}, without(IMAGE, "layers"), {**IMAGE, "layers": None}]
)
def test_empty_lists_are_accepted(document: dict[str, Any]) -> None:
    assert parse(document).manifests == parse(document).layers == ()


def test_index_may_contain_an_index() -> None:
    inner = images.index([]).descriptor()
    assert [child.is_index for child in parse({**INDEX, "manifests": [inner]}).manifests] == [True]


@pytest.mark.parametrize(("document", "kind"), [(INDEX, images.OCI_INDEX), (IMAGE, images.OCI_MANIFEST)])
def test_kind_without_a_media_type_depends_on_the_fields(document: dict[str, Any], kind: str) -> None:
    assert parse(without(document, "mediaType")).media_type == kind


@pytest.mark.parametrize("document", [INDEX, IMAGE])
@pytest.mark.parametrize("announced", [None, "", "application/json", "application/octet-stream", "text/plain"])
def test_announced_type_that_is_not_a_manifest_type_is_ignored(document: dict[str, Any], announced: str | None) -> None:
    assert parse(document, announced).media_type == document["mediaType"]


def test_announced_type_is_used_if_the_body_has_none() -> None:
    bare = without(IMAGE, "mediaType")
    assert parse(bare, images.DOCKER_MANIFEST).media_type == images.DOCKER_MANIFEST


def test_subject_annotations_and_artifact_type_are_read() -> None:
    more = {"subject": {**LAYER, "mediaType": images.OCI_MANIFEST}, "annotations": {"a": "b"}, "artifactType": "c/d"}
    found = parse({**IMAGE, **more})
    assert (found.subject and found.subject.digest, found.annotations, found.artifact_type) == (
        LAYER["digest"],
        {"a": "b"},
        "c/d",
    )


def test_subject_is_not_among_the_links() -> None:
    assert LAYER["digest"] not in [link.digest for link in parse({**INDEX, "subject": LAYER}).links]


def test_unknown_fields_are_accepted() -> None:
    assert parse({**IMAGE, "newField": {"manifests": []}, "history": [1.5]}).config


# Ambiguous manifests (CVE-2021-41190)


@pytest.mark.parametrize("media_type", [None, images.OCI_INDEX, images.DOCKER_LIST])
@pytest.mark.parametrize("key", ["config", "layers", "blobs", "Config", "LAYERS", "layer\N{LATIN SMALL LETTER LONG S}"])
def test_index_with_fields_of_a_manifest_is_refused(media_type: str | None, key: str) -> None:
    own = {"mediaType": media_type} if media_type else {}
    with pytest.raises(InvalidContent):
        parse({**without(INDEX, "mediaType"), **own, key: CONFIG}, media_type)


@pytest.mark.parametrize("media_type", [None, images.OCI_MANIFEST, images.DOCKER_MANIFEST, ARTIFACT])
@pytest.mark.parametrize("key", ["manifests", "Manifests", "MANIFESTS", "manifestS"])
def test_manifest_with_fields_of_an_index_is_refused(media_type: str | None, key: str) -> None:
    own = {"mediaType": media_type} if media_type else {}
    with pytest.raises(InvalidContent):
        parse({**without(IMAGE, "mediaType"), **own, key: []}, media_type)


@pytest.mark.parametrize("announced", TYPES)
@pytest.mark.parametrize("own", TYPES)
def test_body_must_not_contradict_the_announced_type(announced: str, own: str) -> None:
    document = {**(INDEX if own in INDEX_TYPES else IMAGE), "mediaType": own}
    if announced == own:
        assert parse(document, announced).media_type == own
        return
    with pytest.raises(InvalidContent, match="announced as"):
        parse(document, announced)


@pytest.mark.parametrize("key", ["MediaType", "mediatype", "SchemaVersion", "Subject", "ArtifactType", "Annotations"])
def test_a_key_in_another_case_is_refused(key: str) -> None:
    with pytest.raises(InvalidContent, match="some readers take"):
        parse({**IMAGE, key: None})


def test_duplicate_key_is_refused() -> None:
    data = encode(IMAGE).replace(b'"layers"', b'"config":{},"layers"')
    with pytest.raises(InvalidContent, match="occurs twice"):
        manifest.parse(data, None, "it")


# Schema 1

_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
OLD = {"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [{"blobSum": LAYER["digest"]}], "history": []}


@pytest.mark.parametrize(
    ("document", "announced"),
    [
        (OLD, f"{_SCHEMA1}+json"),
        (OLD, f"{_SCHEMA1}+prettyjws"),
        (OLD, None),
        (OLD, "application/json"),
        ({**IMAGE, "mediaType": f"{_SCHEMA1}+json"}, None),
        ({**IMAGE, "mediaType": f"{_SCHEMA1}+prettyjws"}, None),
        (IMAGE, f"{_SCHEMA1}+prettyjws"),
        ({**IMAGE, "schemaVersion": 1}, images.OCI_MANIFEST),
        ({**INDEX, "schemaVersion": 1}, None),
        ({"schemaVersion": 1, "name": "a", "tag": "b"}, None),
        ({**IMAGE, "fsLayers": []}, images.OCI_MANIFEST),
        ({**IMAGE, "fsLayers": None}, None),
        (without(OLD, "schemaVersion"), None),
    ],
)
def test_schema_1_is_refused_with_a_hint(document: dict[str, Any], announced: str | None) -> None:
    with pytest.raises(InvalidContent, match="schema 1") as caught:
        parse(document, announced)
    assert "re-push" in (caught.value.hint or "")


@pytest.mark.parametrize("key", ["fslayers", "FsLayers", "FSLAYERS"])
def test_schema_1_in_another_case_is_refused(key: str) -> None:
    with pytest.raises(InvalidContent):
        parse({**IMAGE, key: OLD["fsLayers"]})


# Broken manifests


@pytest.mark.parametrize("version", [0, 3, -1, 2.0, "2", True, False, [2], 10**400])
@pytest.mark.parametrize("document", [INDEX, IMAGE])
def test_another_schema_version_is_refused(document: dict[str, Any], version: object) -> None:
    with pytest.raises(InvalidContent, match="schemaVersion"):
        parse({**document, "schemaVersion": version})


@pytest.mark.parametrize("document", [INDEX, IMAGE])
def test_missing_schema_version_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent, match="schemaVersion"):
        parse(without(document, "schemaVersion"))


@pytest.mark.parametrize(
    "document", [{}, [], None, 1, "a", {"schemaVersion": 2}, {"layers": []}, {"a": {"config": {}}}]
)
def test_json_that_is_not_a_manifest_is_refused(document: object) -> None:
    with pytest.raises(InvalidContent):
        parse(document)


@pytest.mark.parametrize("media_type", ["a/b", images.OCI_CONFIG, images.OCI_LAYER, "application/json"])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(InvalidContent, match="neither a manifest nor an index"):
        parse({**IMAGE, "mediaType": media_type})


@pytest.mark.parametrize("media_type", [1, True, [], {}, 1.5])
def test_media_type_that_is_not_text_is_refused(media_type: object) -> None:
    with pytest.raises(InvalidContent):
        parse({**IMAGE, "mediaType": media_type})


@pytest.mark.parametrize("media_type", [images.OCI_MANIFEST, images.DOCKER_MANIFEST])
def test_image_without_a_config_is_refused(media_type: str) -> None:
    for document in (without(IMAGE, "config"), {**IMAGE, "config": None}):
        with pytest.raises(InvalidContent, match="'config' is missing"):
            parse({**document, "mediaType": media_type})


@pytest.mark.parametrize("value", [{}, "a", 1, True])
def test_children_that_are_not_a_list_are_refused(value: object) -> None:
    with pytest.raises(InvalidContent, match="is not a list"):
        parse({**INDEX, "manifests": value})


def test_list_of_children_may_be_null_but_not_missing() -> None:
    """Go writes an empty list as null."""
    assert parse({**INDEX, "manifests": None}).links == ()
    with pytest.raises(InvalidContent):
        parse(without(INDEX, "manifests"))


@pytest.mark.parametrize("value", [{}, "a", 1, True])
def test_layers_that_are_not_a_list_are_refused(value: object) -> None:
    with pytest.raises(InvalidContent, match="is not a list"):
        parse({**IMAGE, "layers": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", []),
        ("config", "a"),
        ("config", {}),
        ("layers", [None]),
        ("layers", [LAYER, {}]),
        ("layers", [[LAYER]]),
        ("subject", []),
        ("subject", {}),
        ("subject", {**LAYER, "size": -1}),
        ("annotations", {"a": 1}),
        ("annotations", []),
        ("artifactType", 1),
    ],
)
def test_a_broken_field_is_refused(name: str, value: object) -> None:
    with pytest.raises(ContentError):
        parse({**IMAGE, name: value})


def test_error_for_a_broken_layer_contains_its_position() -> None:
    with pytest.raises(InvalidContent, match=r"it: layers\[1\]: "):
        parse({**IMAGE, "layers": [LAYER, {**LAYER, "size": -1}]})


def test_manifest_up_to_the_size_limit_is_read() -> None:
    data = encode(IMAGE)
    assert manifest.parse(data.ljust(MANIFEST_CAP), None, "it").config
    with pytest.raises(InvalidContent, match="a manifest has at most"):
        manifest.parse(data.ljust(MANIFEST_CAP + 1), None, "it")


# Indexes that mirror builds


def test_built_index_keeps_its_children_unchanged() -> None:
    child = {**images.image("linux/amd64").descriptor(), "newField": ["ü", 1], "urls": ["https://example.invalid"]}
    data = manifest.build_index(images.OCI_INDEX, [child], {"from": "there"})
    assert manifest.raw_children(data, "it") == [child]
    assert manifest.parse(data, images.OCI_INDEX, "it").annotations == {"from": "there"}


def test_a_built_manifest_list_has_no_annotations() -> None:
    data = manifest.build_index(images.DOCKER_LIST, [], {"from": "there"})
    assert json.loads(data) == {"schemaVersion": 2, "mediaType": images.DOCKER_LIST, "manifests": []}


def test_same_children_make_an_index_of_the_same_bytes() -> None:
    children = [images.image(platform).descriptor() for platform in ("linux/arm64", "linux/amd64")]
    one, other = (manifest.build_index(images.OCI_INDEX, children, {"a": "b"}) for _ in range(2))
    assert one == other


# The published manifests of redis:4.0


def test_the_real_list_has_its_published_digest() -> None:
    data = (RECORD / "manifest-list.json").read_bytes()
    assert Digest.of(data) == "sha256:dbc6a7ed5f218f9d08d94f8c0731b36c69c4a69d2bd649c9359f7650d1b66154"


def test_the_real_list_names_two_platforms() -> None:
    found = manifest.parse((RECORD / "manifest-list.json").read_bytes(), images.DOCKER_LIST, "redis:4.0")
    assert [str(child.platform) for child in found.manifests] == ["linux/amd64", "linux/arm/v7"]
    assert [(child.size, child.digest.short) for child in found.manifests] == [
        (1571, "ef728e78b63d"),
        (1571, "3e1cf827dc63"),
    ]


@pytest.mark.parametrize(
    ("name", "config", "layers"),
    [("manifest-linux-amd64.json", 5802, 39_372_240), ("manifest-linux-arm-v7.json", 5800, 35_156_734)],
)
def test_the_real_manifests_have_their_published_sizes(name: str, config: int, layers: int) -> None:
    found = manifest.parse((RECORD / name).read_bytes(), images.DOCKER_MANIFEST, name)
    assert found.config
    assert found.config.size == config
    assert (len(found.layers), sum(layer.size for layer in found.layers)) == (6, layers)
