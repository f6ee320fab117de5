"""Tests of the JSON parser, which refuses documents that other parsers may read differently."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import InvalidContent, MirrorError
from mirror.strictjson import MOST_DEPTH, MOST_VALUES, Fields, JsonObject, load_object, loads
from tests.support.strategies import THOROUGH, json_values, nasty_text, outcome


@pytest.mark.slow
@given(json_values)
@THOROUGH
def test_any_json_value_is_parsed(value: Any) -> None:
    assert loads(json.dumps(value).encode(), "it") == value


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
@THOROUGH
def test_any_bytes_are_json_or_an_error_that_names_the_document(data: bytes) -> None:
    found = outcome(lambda: loads(data, "it"))
    assert not isinstance(found, MirrorError) or str(found).startswith("it: ")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":2}}',
        b'[{"a":1,"a":2}]',
        b'{"a":1,"\\u0061":2}',
        b'{"":1,"":2}',
    ],
)
def test_a_duplicate_key_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidContent, match="occurs twice"):
        loads(data, "it")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_refused(number: str) -> None:
    for text in (number, f"[{number}]", f'{{"size":{number}}}'):
        with pytest.raises(InvalidContent, match="not a JSON number"):
            loads(text.encode(), "it")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400 + ".0"])
def test_a_number_that_overflows_is_refused(number: str) -> None:
    """Read as infinite, it would be written as `Infinity`, which is not valid JSON."""
    with pytest.raises(InvalidContent):
        loads(f"[{number}]".encode(), "it")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_deep_nesting_is_refused(depth: int, pair: str) -> None:
    with pytest.raises(InvalidContent):
        loads((pair[:-1] * depth + "1" + pair[-1] * depth).encode(), "it")


def test_a_number_of_5000_digits_is_refused() -> None:
    with pytest.raises(InvalidContent):
        loads(b'{"size":' + b"1" * 5000 + b"}", "it")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{} x",
        b"{'a':1}",
        b"{a:1}",
        b"[1,]",
        b'{"a":1,}',
        b"// no\n{}",
        b"01",
        b"+1",
        b".5",
        b"0x10",
        b"True",
        b'"\x01"',
        b'"\\x41"',
        b"\0",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
    ],
)
def test_invalid_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidContent):
        loads(data, "it")


def test_the_error_names_the_position_of_an_invalid_byte() -> None:
    with pytest.raises(InvalidContent, match="byte 2 is invalid"):
        loads(b'{"\xff":1}', "it")


@pytest.mark.parametrize("data", [b'"\\ud800"', b'{"\\udfff":"\\ud800x"}'])
def test_a_lone_surrogate_is_kept(data: bytes) -> None:
    """The grammar of JSON allows it. It is unchanged after writing and reading."""
    value = loads(data, "it")
    assert loads(json.dumps(value).encode(), "it") == value


def test_the_error_about_a_duplicate_key_is_printable() -> None:
    with pytest.raises(InvalidContent) as caught:
        loads(b'{"\\ud800\\u001b":1,"\\ud800\\u001b":2}', "it")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[]", "a list"),
        (b'"a"', "a string"),
        (b"true", "a boolean"),
        (b"1", "a number"),
        (b"1.5", "a number"),
        (b"null", "null"),
    ],
)
def test_the_error_names_the_type_of_a_document_that_is_not_an_object(data: bytes, kind: str) -> None:
    with pytest.raises(InvalidContent, match=f"^it: not a JSON object but {kind}[.]$"):
        load_object(data, "it")


def test_an_object_is_returned() -> None:
    assert load_object(b'{"a":{"b":[null]}}', "it") == {"a": {"b": [None]}}


@pytest.mark.parametrize("key", ["SIZE", "Size", "sizE", "\N{LATIN SMALL LETTER LONG S}ize"])
def test_a_key_that_go_would_accept_for_a_field_is_refused(key: str) -> None:
    """Go ignores case, also of Unicode: the long s matches an s, and the Kelvin sign a k."""
    for document in ({key: 1}, {"size": 1, key: 2}, {key: 2, "size": 1}):
        with pytest.raises(InvalidContent, match=r"some readers take the key .* for 'size'"):
            Fields(document, "it").get("size")


def test_the_kelvin_sign_is_compared_as_a_k() -> None:
    with pytest.raises(InvalidContent):
        Fields({"\N{KELVIN SIGN}ey": 1}, "it").get("key")


@pytest.mark.parametrize("document", [{}, {"siz": 1, "sizes": 2, "size ": 3, "": 4}])
def test_a_missing_field_is_none(document: dict[str, int]) -> None:
    assert Fields(document, "it").get("size") is None


@given(st.dictionaries(nasty_text, st.integers(), max_size=4), st.integers())
@THOROUGH
def test_a_field_is_found_beside_any_others(others: dict[str, int], value: int) -> None:
    rest = {key: number for key, number in others.items() if key.casefold() != "size"}
    assert Fields({**rest, "size": value}, "it").get("size") == value


_keys = st.sampled_from(["size", "kind", "SIZE", "Kind", "\N{KELVIN SIGN}ind", "other", "Other"])


@pytest.mark.slow
@given(st.dictionaries(_keys, st.integers(), max_size=4), st.sampled_from(["size", "kind"]))
@THOROUGH
def test_names_of_the_known_fields_do_not_change_the_result(document: JsonObject, name: str) -> None:
    fast, slow = (Fields(document, "it", keys) for keys in (frozenset({"size", "kind"}), frozenset[str]()))
    assert repr(outcome(lambda: fast.get(name))) == repr(outcome(lambda: slow.get(name)))


READ: dict[str, Callable[[Fields], object]] = {
    "a string": lambda fields: fields.string("x"),
    "a number from 0 to 2^63 - 1": lambda fields: fields.integer("x"),
    "a list": lambda fields: fields.array("x"),
    "a list of strings": lambda fields: fields.strings("x"),
    "an object of strings": lambda fields: fields.mapping("x"),
}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("value", ["a", 1, -1, 2**63, True, 1.5, ["a"], [1], {}, {"a": "b"}, {"a": 1}])
def test_the_error_names_the_expected_type_of_a_field(kind: str, value: object) -> None:
    found = outcome(lambda: READ[kind](Fields({"x": value}, "it")))
    if isinstance(found, InvalidContent):
        assert str(found) == f"it: 'x' is not {kind}."
    else:
        assert found == (tuple(value) if isinstance(value, list) and kind == "a list of strings" else value)


@pytest.mark.parametrize("document", [{}, {"x": None}])
def test_a_field_that_is_null_is_absent(document: JsonObject) -> None:
    fields = Fields(document, "it")
    assert [fields.string("x"), fields.array("x"), fields.strings("x"), fields.mapping("x")] == ["", [], (), {}]
    assert (fields.nested("x"), list(fields.objects("x"))) == (None, [])
    with pytest.raises(InvalidContent, match=r"^it: 'x' is missing[.]$"):
        fields.required("x")


def test_an_error_has_the_path_of_the_field() -> None:
    document = {"a": [{}, {"b": {"c": 1}}]}
    _, second = Fields(document, "it").objects("a")
    inner = second.nested("b")
    assert inner
    with pytest.raises(InvalidContent, match=r"^it: a\[1\]: b: 'c' is not a string[.]$"):
        inner.string("c")
    with pytest.raises(InvalidContent, match=r"^'a' is not a string[.]$"):
        Fields(document, "").string("a")


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0", b'""'])
def test_a_document_with_too_many_values_is_refused(value: bytes) -> None:
    data = b"[" + (value + b",") * MOST_VALUES + value + b"]"
    with pytest.raises(InvalidContent, match="more than 2000000 values"):
        loads(data, "it")


# Depth


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_the_depth_of_nesting_is_limited(opening: bytes, closing: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{")
    deepest = MOST_DEPTH // levels
    loads(opening * deepest + b"1" + closing * deepest, "x")
    with pytest.raises(InvalidContent, match="nested too deep"):
        loads(opening * (deepest + 1) + b"1" + closing * (deepest + 1), "x")


def test_brackets_in_strings_do_not_nest() -> None:
    text = json.dumps({'a\\"[': "[{" * MOST_DEPTH + '\\"', "b\\": "[" * MOST_DEPTH})
    assert loads(text.encode(), "x") == json.loads(text)


def test_a_million_unclosed_brackets_are_refused_as_too_deep() -> None:
    with pytest.raises(InvalidContent, match="nested too deep"):
        loads(b"[" * 1_000_000, "x")
