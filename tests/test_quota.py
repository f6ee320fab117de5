"""Tests of the rate limits that registries report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.quota import Quota
from tests.support.strategies import QUICK, nasty_text


def quota(limit: str, remaining: str) -> Quota | None:
    return Quota.from_headers({"ratelimit-limit": limit, "ratelimit-remaining": remaining})


def test_limit_remainder_and_window_are_read() -> None:
    found = quota("100;w=21600", "76;w=21600")
    assert found == Quota(100, 76, 21600)
    assert str(found) == "76 of 100 pulls in 6 h are left"


def test_the_window_is_optional() -> None:
    assert quota("100", "0") == Quota(100, 0)


@pytest.mark.parametrize("text", ["", "-1", "1_000", "٣", "100;w=", "100;w=x", "9" * 30, "100\n", "100;w=1;x"])
def test_an_invalid_header_gives_no_quota(text: str) -> None:
    assert quota(text, "1") is None
    assert quota("1", text) is None


def test_missing_headers_give_no_quota() -> None:
    assert Quota.from_headers({}) is None


@QUICK
@given(limit=nasty_text | st.just("100"), remaining=nasty_text)
def test_any_headers_give_a_quota_or_none(limit: str, remaining: str) -> None:
    found = quota(limit, remaining)
    assert found is None or found.limit >= 0
