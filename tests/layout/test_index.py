"""Tests of index.json: entries of all tools are understood, and kept by changes."""

import json
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import BrokenLayout, InvalidReference, NotFound, UsageError
from mirror.layout import index
from mirror.layout.index import Entry
from mirror.layout.index_editor import IndexEditor
from mirror.layout.names import IMAGE_NAME, REF_NAME, SPARSE
from mirror.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from tests.support import images
from tests.support.strategies import (
    QUICK,
    THOROUGH,
    as_json,
    descriptors,
    documents,
    json_values,
    mutated,
    names,
    outcome,
)

REDIS = "docker.io/library/redis:4.0"
Json = dict[str, Any]


def root(text: str = "root", **annotations: str) -> Descriptor:
    data = text.encode()
    return Descriptor(OCI_INDEX, Digest.of(data), len(data), annotations=annotations)


def raw(text: str = "root", image_name: str | None = None, ref_name: str | None = None, **fields: object) -> Json:
    """Return an entry as another tool writes it."""
    pairs = {IMAGE_NAME: image_name, REF_NAME: ref_name}
    annotations = {key: name for key, name in pairs.items() if name is not None}
    node = root(text).to_json()
    return {**node, **({"annotations": annotations} if annotations else {}), **fields}


def index_of(*entries: Json, **fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries), **fields}).encode()


def raw_entries(data: bytes) -> list[Json]:
    found: list[Json] = json.loads(data)["manifests"]
    return found


def called(data: bytes) -> list[str]:
    return [entry.name for entry in index.entries(data)]


def with_entry(data: bytes, name: str, node: Descriptor) -> tuple[bytes, Entry | None]:
    editor = IndexEditor(data)
    before = editor.add(name, node)
    return b"".join(editor.dump()), before


def without_entry(data: bytes, gone: Entry) -> bytes:
    editor = IndexEditor(data)
    editor.remove(gone)
    return b"".join(editor.dump())


def with_redis(data: bytes) -> bytes:
    return with_entry(data, REDIS, root())[0]


# oci-layout


@pytest.mark.parametrize(
    "data",
    [
        index.OCI_LAYOUT,
        b'{"imageLayoutVersion": "1.0.0"}\n',
        b'{ "imageLayoutVersion" : "1.0.0", "more": 1 }',
    ],
)
def test_layout_version_1_0_0_is_accepted(data: bytes) -> None:
    index.check_layout_file(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1.0.0",
        b"null",
        b"[]",
        b"{}",
        b'{"imageLayoutVersion":"1.0.1"}',
        b'{"imageLayoutVersion":"1.0"}',
        b'{"imageLayoutVersion":"2.0.0"}',
        b'{"imageLayoutVersion":1.0}',
        b'{"imageLayoutVersion":null}',
        b'{"imageLayoutVersion":["1.0.0"]}',
        b'{"imagelayoutversion":"1.0.0"}',
        b'{"imageLayoutVersion":"2.0.0","imageLayoutVersion":"1.0.0"}',
        b'{"imageLayoutVersion":"1.0.0"',
        b'\xef\xbb\xbf{"imageLayoutVersion":"1.0.0"}',
        b'{"imageLayoutVersion":"1.0.0","x":NaN}',
        b"\xff\xfe",
    ],
)
def test_any_other_oci_layout_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenLayout, match="oci-layout"):
        index.check_layout_file(data)


# Reading entries


@pytest.mark.parametrize(
    ("entry", "name", "tag"),
    [
        (raw(image_name=REDIS, ref_name="4.0"), REDIS, "4.0"),
        (raw(ref_name=REDIS), REDIS, "4.0"),
        (raw(ref_name="index.docker.io/library/redis:4.0"), REDIS, "4.0"),
        (raw(ref_name="4.0"), "4.0", "4.0"),
        (raw(ref_name="some name"), "some name", None),
        (raw(image_name="some name"), "some name", None),
        (raw(), root().digest, None),
        (raw(image_name="quay.io/a:1", ref_name="2"), "quay.io/a:2", "2"),
        (raw(image_name=f"quay.io/a@{root().digest}"), f"quay.io/a@{root().digest}", None),
        (raw(platform={"os": "linux", "architecture": "amd64"}), root().digest, None),
        (raw(ref_name="4.0", mediaType=OCI_MANIFEST), "4.0", "4.0"),
    ],
)
def test_entries_of_every_tool_have_a_name(entry: Json, name: str, tag: str | None) -> None:
    found = index.entries(index_of(entry))[0]
    assert (found.name, found.tag, found.root.digest) == (name, tag, root().digest)


def test_entries_keep_their_order() -> None:
    assert called(index_of(raw(ref_name="z"), raw(ref_name="a"), raw(ref_name="m"))) == ["z", "a", "m"]


@pytest.mark.parametrize("fields", [{}, {"mediaType": OCI_INDEX}, {"annotations": {"a": "b"}}, {"unknown": [1.5]}])
def test_optional_and_unknown_fields_of_an_index_are_accepted(fields: Json) -> None:
    assert index.entries(index_of(**fields)) == []


def test_list_of_entries_may_be_null() -> None:
    assert index.entries(b'{"schemaVersion":2,"manifests":null}') == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"schemaVersion":2}',
        b'{"manifests":[]}',
        b'{"schemaVersion":1,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":[null]}',
        b'{"schemaVersion":2,"manifests":[{}]}',
        b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"Manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"config":{}}',
        b'{"schemaVersion":2,"manifests":[],"x":NaN}',
        b'{"schemaVersion":2,"manifests":[],"x":1e999}',
        b'{"schemaVersion":2,"manifests":[]',
        b'\xef\xbb\xbf{"schemaVersion":2,"manifests":[]}',
        index_of(raw(size=-1)),
        index_of(raw(size=2**63)),
        index_of(raw(digest="sha256:../../x")),
        index_of(raw(annotations={"a": 1})),
        index_of(mediaType=images.OCI_MANIFEST),
        b'{"schemaVersion":2,"manifests":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_broken_index_is_a_broken_layout(data: bytes) -> None:
    with pytest.raises(BrokenLayout):
        index.entries(data)


@pytest.mark.slow
@given(documents().map(as_json) | json_values.map(as_json) | mutated(index_of(raw(image_name=REDIS, ref_name="4.0"))))
@THOROUGH
def test_any_bytes_are_an_index_or_a_broken_layout(data: bytes) -> None:
    """An index that can be read can be changed, too."""
    found = outcome(lambda: index.entries(data))
    new = outcome(partial(with_redis, data))
    if isinstance(found, BrokenLayout):
        assert isinstance(new, BrokenLayout)
    else:
        assert isinstance(new, bytes)
        assert REDIS in called(new)


def test_nested_json_that_can_be_read_can_be_written() -> None:
    """The depths are around the limit of the reader."""
    for depth in (10, 300, 600, 900, 960, 970, 980, 990):
        data = index_of(x=None).replace(b"null", b"[" * depth + b"]" * depth)
        new = outcome(partial(with_redis, data))
        assert isinstance(new, BrokenLayout) or (isinstance(new, bytes) and called(new) == [REDIS])


# Finding an image

BOTH = index_of(raw("one", REDIS, "4.0"), raw("other", "quay.io/a/redis:4.0", "quay.io/a/redis:4.0"))


def find(data: bytes, text: str) -> Entry:
    return index.EntryFinder(index.entries(data), "it").find(text)


@pytest.mark.parametrize(
    "text",
    [
        REDIS,
        "redis:4.0",
        "library/redis:4.0",
        "docker://redis:4.0",
        "index.docker.io/library/redis:4.0",
        f"redis@{root('one').digest}",
        f"redis:4.0@{root('one').digest}",
        root("one").digest,
    ],
)
def test_an_image_is_found_by_each_of_its_names(text: str) -> None:
    assert find(BOTH, text).root.digest == root("one").digest


@pytest.mark.parametrize(
    "text",
    [
        "redis",
        "redis:5.0",
        "quay.io/b/redis:4.0",
        f"quay.io/a/redis:4.0@{root('one').digest}",
        f"redis:5.0@{root('one').digest}",
        "sha256:" + "0" * 64,
        "",
        "no name \x1b[2J",
    ],
)
def test_error_for_a_missing_image_lists_the_images(text: str) -> None:
    with pytest.raises(NotFound, match="it has no image") as caught:
        find(BOTH, text)
    assert caught.value.hint == f"It has: {REDIS}, quay.io/a/redis:4.0."
    assert str(caught.value).isprintable()


def test_error_for_an_unknown_image_names_ten_images_and_the_command_that_lists_all() -> None:
    found = [Entry(root(), Reference.parse(f"a:{number}"), None) for number in range(12)]
    with pytest.raises(NotFound) as caught:
        index.EntryFinder(found, "layout").find("nothing")
    assert (caught.value.hint or "").endswith("docker.io/library/a:9 and 2 more; mirror ls layout lists all.")


def test_error_for_an_empty_layout_says_that_there_are_no_images() -> None:
    with pytest.raises(NotFound) as caught:
        find(index_of(), "redis")
    assert "no images at all" in (caught.value.hint or "")


def test_long_list_of_images_is_shortened() -> None:
    many = index_of(*(raw(str(number), f"quay.io/a:{number}") for number in range(12)))
    with pytest.raises(NotFound) as caught:
        find(many, "redis")
    assert "quay.io/a:9 and 2 more" in (caught.value.hint or "")


def test_tag_of_two_images_is_ambiguous() -> None:
    with pytest.raises(UsageError, match="has several images called") as caught:
        find(BOTH, "4.0")
    assert "quay.io/a/redis:4.0" in (caught.value.hint or "")


def test_image_is_found_by_its_tag_alone() -> None:
    data = index_of(raw("one", ref_name="4.0"), raw("other", ref_name="5.0"))
    assert find(data, "5.0").root.digest == root("other").digest


def test_digest_with_two_names_is_not_ambiguous() -> None:
    assert find(index_of(raw("one", REDIS), raw("one", ref_name="4.0")), root("one").digest)


def is_called(entry: Entry, text: str) -> bool:
    """Return whether `text` refers to this entry, independent of other entries."""
    annotations = entry.root.annotations
    if text in (entry.root.digest, annotations.get(IMAGE_NAME), annotations.get(REF_NAME), entry.tag):
        return True
    try:
        asked = Reference.parse(text)
    except UsageError:
        return False
    if asked.digest:
        same = entry.reference is not None and entry.reference.name == asked.name
        return same and entry.root.digest == asked.digest and asked.tag in (None, entry.tag)
    return entry.reference is not None and entry.reference.stored == asked.stored


_roots = st.sampled_from([root("one"), root("two")])
_image_names = st.sampled_from(
    [None, REDIS, "quay.io/a/redis:4.0", "quay.io/a/redis:5", f"a.io/b@{root('one').digest}"]
)
_ref_names = st.sampled_from([None, "4.0", "5", "any name", "", "redis:4.0", "x/redis:4.0", "a.io/a/redis:4.0"])
_texts = [
    "4.0",
    "",
    "redis",
    "redis:4.0",
    "a/redis:4.0",
    "quay.io/a/redis:4.0",
    "any name",
    "io/a/redis:4.0",
    root("one").digest,
    f"redis@{root('one').digest}",
    f"redis:4.0@{root('two').digest}",
    f"a.io/b@{root('one').digest}",
    f"b@{root('one').digest}",
]


@pytest.mark.slow
@given(st.lists(st.builds(raw, st.sampled_from(["one", "two"]), _image_names, _ref_names), max_size=5))
@THOROUGH
def test_finder_finds_the_same_entries_as_a_linear_search(raws: list[Json]) -> None:
    found = index.entries(index_of(*raws))
    finder = index.EntryFinder(found, "it")
    for text in _texts:
        matches = [entry for entry in found if is_called(entry, text)]
        matches = matches or [entry for entry in found if entry.name.endswith(f"/{text}")]
        one = outcome(partial(finder.find, text))
        if len({entry.root.digest for entry in matches}) == 1:
            assert one in matches
            assert one.root.digest == matches[0].root.digest
            assert one.name == text or all(entry.name != text for entry in matches)  # an exact name comes first
        else:
            assert isinstance(one, UsageError if matches else NotFound)


def test_image_that_is_requested_twice_is_found_once() -> None:
    found = index.entries(BOTH)
    assert index.EntryFinder(found, "it").find_all([REDIS, "quay.io/a/redis:4.0", "redis:4.0"]) == found


# Writing an entry


def changed(data: bytes, name: str, node: Descriptor) -> tuple[bytes, str | None]:
    new, before = with_entry(data, name, node)
    return new, before.root.digest if before else None


def test_new_image_has_both_name_annotations() -> None:
    new, before = changed(index.EMPTY, REDIS, root())
    assert before is None
    assert raw_entries(new) == [raw(image_name=REDIS, ref_name="4.0")]


def test_origin_annotation_is_kept_and_names_are_replaced() -> None:
    new, _ = changed(index.EMPTY, REDIS, root(**{"dev.oci-mirror.origin": "there", REF_NAME: "x", IMAGE_NAME: "y/z"}))
    assert raw_entries(new)[0]["annotations"] == {
        IMAGE_NAME: REDIS,
        REF_NAME: "4.0",
        "dev.oci-mirror.origin": "there",
    }


@pytest.mark.parametrize(
    "old",
    [
        raw("old", REDIS, "4.0"),
        raw("old", ref_name=REDIS),
        raw("old", ref_name="index.docker.io/library/redis:4.0"),
        raw("old", image_name="redis:4.0"),
    ],
)
def test_entry_of_any_tool_with_the_same_name_is_replaced(old: Json) -> None:
    new, before = changed(index_of(raw("a", "a.io/a:1"), old, raw("z", "z.io/z:1")), REDIS, root("new"))
    assert before == root("old").digest
    assert called(new) == ["a.io/a:1", REDIS, "z.io/z:1"]
    assert raw_entries(new)[1]["digest"] == root("new").digest


def test_two_entries_with_the_same_name_are_replaced_by_one() -> None:
    new, before = changed(index_of(raw("one", REDIS), raw("other", REDIS)), REDIS, root("new"))
    assert (before, called(new)) == (root("one").digest, [REDIS])


def test_adding_the_same_image_again_changes_nothing() -> None:
    once, _ = changed(index.EMPTY, REDIS, root())
    assert changed(once, REDIS, root()) == (once, root().digest)


def test_existing_name_annotations_are_kept() -> None:
    """The ref name is a full name because another image has the tag in the layout that it comes from."""
    named = root(**{IMAGE_NAME: REDIS, REF_NAME: REDIS})
    assert raw_entries(changed(index.EMPTY, REDIS, named)[0]) == [raw(image_name=REDIS, ref_name=REDIS)]


def test_ref_name_of_another_image_is_not_kept() -> None:
    old = index_of(raw("old", "a.io/a:4.0", "4.0"))
    new, _ = changed(old, REDIS, root(**{IMAGE_NAME: REDIS, REF_NAME: "4.0"}))
    assert raw_entries(new)[1] == raw(image_name=REDIS, ref_name=REDIS)


@pytest.mark.parametrize("annotations", [{REF_NAME: "4.0"}, {REF_NAME: "any name"}, {}], ids=["tag", "name", "none"])
def test_images_without_full_names_keep_their_annotations(annotations: dict[str, str]) -> None:
    one, other = root("one", **annotations), root("other", **annotations)
    data, before = index.EMPTY, None
    for node in (one, other, one):
        data, before = changed(data, index.Entry.of(node).name, node)
    assert before == one.digest
    assert {entry["digest"]: entry.get("annotations", {}) for entry in raw_entries(data)} == {
        one.digest: annotations,
        other.digest: annotations,
    }


@pytest.mark.slow
@given(
    st.lists(descriptors(), max_size=5),
    st.dictionaries(st.sampled_from(["annotations2", "x", "ü", ""]), json_values, max_size=3),
    names(),
)
@QUICK
def test_other_entries_and_unknown_fields_are_unchanged(others: list[Json], fields: Json, text: str) -> None:
    data = as_json({"schemaVersion": 2, "manifests": others, **fields})
    name = Reference.parse(text).stored
    new, before = with_entry(data, name, root("new"))
    document = json.loads(new)
    fresh = [entry for entry in document["manifests"] if (entry.get("annotations") or {}).get(IMAGE_NAME) == name]
    document["manifests"].remove(fresh[0])
    assert before is None
    assert document == json.loads(data)
    assert find(new, name).root.digest == root("new").digest


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_of_adding_does_not_change_the_index(order: tuple[int, ...]) -> None:
    some = ["a.io/a:1", "b.io/b:2", REDIS]
    data = index.EMPTY
    for number in order:
        data, _ = changed(data, some[number], root(some[number]))
    assert called(data) == some
    assert raw_entries(data) == [raw(name, name, name.rpartition(":")[2]) for name in some]


def test_entries_of_other_tools_keep_their_order() -> None:
    new, _ = changed(index_of(raw("z", ref_name="z"), raw("a", ref_name="a")), REDIS, root())
    assert called(new) == ["z", "a", REDIS]


def test_same_tag_of_two_repositories_has_two_ref_names() -> None:
    once, _ = changed(index.EMPTY, REDIS, root("one"))
    twice, before = changed(once, "quay.io/a/b:4.0", root("other"))
    assert before is None
    assert [entry["annotations"][REF_NAME] for entry in raw_entries(twice)] == ["4.0", "quay.io/a/b:4.0"]
    assert find(twice, "quay.io/a/b:4.0").root.digest == root("other").digest


def test_bare_tag_of_another_tool_is_not_replaced() -> None:
    new, before = changed(index_of(raw("theirs", ref_name="4.0")), REDIS, root("ours"))
    assert before is None
    assert [entry["annotations"][REF_NAME] for entry in raw_entries(new)] == ["4.0", REDIS]


@pytest.mark.parametrize("tag", ["__x", "a__b", "x."])
def test_tag_that_is_not_a_legal_ref_name_is_only_in_the_full_name(tag: str) -> None:
    new, _ = changed(index.EMPTY, f"quay.io/a:{tag}", root())
    assert raw_entries(new)[0]["annotations"] == {IMAGE_NAME: f"quay.io/a:{tag}"}
    assert called(new) == [f"quay.io/a:{tag}"]


def test_image_without_a_tag_is_named_by_its_digest() -> None:
    name = f"quay.io/a@{root().digest}"
    new, _ = changed(index.EMPTY, name, root())
    assert raw_entries(new)[0]["annotations"] == {IMAGE_NAME: name, REF_NAME: name}
    assert find(new, name).name == name


@pytest.mark.parametrize("name", ["", "No Name", "a\nb", "../x"])
def test_invalid_name_is_not_written(name: str) -> None:
    with pytest.raises(InvalidReference):
        with_entry(index.EMPTY, name, root())


def test_image_can_be_added_to_a_null_list() -> None:
    new, _ = changed(b'{"schemaVersion":2,"manifests":null}', REDIS, root())
    assert called(new) == [REDIS]


_names = st.sampled_from(["a.io/a:1", "a.io/b:1", "b.io/b:1", "b.io/b:2", REDIS])
_kept = st.sampled_from([{}, {REF_NAME: "1"}, {REF_NAME: "any"}, {IMAGE_NAME: REDIS, REF_NAME: "4.0"}, {"x": "y"}])
_theirs = st.builds(raw, st.sampled_from(["one", "two"]), st.none() | _names, st.none() | _names | st.just("1"))


@pytest.mark.slow
@given(
    st.lists(_theirs, max_size=4),
    st.lists(st.tuples(st.none() | _names, st.sampled_from(["one", "two"]), _kept), max_size=8),
)
@THOROUGH
def test_one_editor_makes_the_same_changes_as_one_editor_per_change(theirs: list[Json], changes: list[Any]) -> None:
    """`None` in `changes` stands for the name that the entry already has."""
    data = b"".join(IndexEditor(index_of(*theirs)).dump())
    editor = IndexEditor(data)
    for wanted, text, annotations in changes:
        node = root(text, **annotations)
        name = wanted or Entry.of(node).name
        data, before = with_entry(data, name, node)
        assert editor.add(name, node) == before
        if text == "two":  # read the entries between some changes
            assert editor.entries() == index.entries(data)
    assert b"".join(editor.dump()) == data
    for entry in index.entries(data)[::2]:
        data = without_entry(data, entry)
        editor.remove(entry)
    assert b"".join(editor.dump()) == data


@pytest.mark.parametrize(
    "data", [index.EMPTY, BOTH, index_of(x={"y": []}, z=[]), b'{"manifests":null,"schemaVersion":2}']
)
def test_index_is_formatted_like_json_dumps(data: bytes) -> None:
    document = json.loads(data)
    document["manifests"] = document["manifests"] or []
    assert b"".join(IndexEditor(data).dump()) == json.dumps(document, indent=2).encode()


def test_given_name_is_used_despite_another_tag_in_the_ref_name() -> None:
    """umoci does not change the full name when it gives an image another tag."""
    new, _ = changed(index.EMPTY, "a.io/a:1", root(**{IMAGE_NAME: "a.io/a:1", REF_NAME: "2"}))
    assert called(new) == ["a.io/a:1"]


# Removing an entry


def test_remove_removes_only_the_given_entry() -> None:
    some = [raw("z", ref_name="z", unknown=[1]), raw("one", REDIS, "4.0"), raw("a")]
    data = index_of(*some, unknown={"ü": 1})
    new = without_entry(data, find(data, REDIS))
    assert json.loads(new) == json.loads(index_of(some[0], some[2], unknown={"ü": 1}))


def test_adding_and_removing_an_image_restores_the_index() -> None:
    before = index_of(raw("z", ref_name="z"), raw("a"))
    new, _ = changed(before, REDIS, root())
    assert json.loads(without_entry(new, find(new, REDIS))) == json.loads(before)


# Sparse images


def entry_of(sparse: str | None) -> Entry:
    return Entry.of(root(**({SPARSE: sparse} if sparse is not None else {})))


CHILD = Descriptor(OCI_MANIFEST, Digest.of(b"child"), 5)
INNER = Descriptor(OCI_INDEX, Digest.of(b"inner"), 5)
_absent: list[tuple[str | None, Callable[[Entry], bool], bool]] = [
    (None, lambda entry: entry.lacks(CHILD), False),
    (CHILD.digest, lambda entry: entry.lacks(CHILD), False),
    (f"{INNER.digest},{CHILD.digest}", lambda entry: entry.lacks(CHILD), False),
    (INNER.digest, lambda entry: entry.lacks(CHILD), True),
    ("", lambda entry: entry.lacks(CHILD), True),
    (CHILD.digest, lambda entry: entry.lacks(INNER), False),
]


@pytest.mark.parametrize(("sparse", "ask", "lacks"), _absent)
def test_sparse_entry_lacks_only_manifests_that_were_not_kept(
    sparse: str | None, ask: Callable[[Entry], bool], lacks: bool
) -> None:
    assert ask(entry_of(sparse)) is lacks
