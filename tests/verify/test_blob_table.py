"""Tests of the table that gives each digest a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.digest import Digest
from mirror.verify.blob_table import BlobTable
from tests.support.strategies import THOROUGH

TWINS = [Digest("sha256:" + "ab" * 31 + last) for last in ("00", "01", "ff")]
OTHERS = [Digest("sha256:" + "ab" * 30 + "cd00"), Digest("sha512:" + "ab" * 64), Digest("sha256:" + "00" * 32)]


def test_digests_that_differ_in_one_byte_have_different_numbers() -> None:
    table = BlobTable()
    numbers = [table.number(digest) for digest in TWINS]
    assert numbers == [0, 1, 2]
    assert [table.number(digest) for digest in reversed(TWINS)] == [2, 1, 0]
    assert [table.digest(number) for number in numbers] == TWINS


@pytest.mark.slow
@THOROUGH
@given(st.lists(st.sampled_from(TWINS + OTHERS)))
def test_numbers_are_consecutive_and_map_back_to_their_digests(digests: list[Digest]) -> None:
    table = BlobTable()
    numbers = {digest: table.number(digest) for digest in digests}
    assert sorted(numbers.values()) == list(range(len(table))) == list(range(len(set(digests))))
    for digest, number in numbers.items():
        assert table.number(digest) == number
        assert table.digest(number) == digest
