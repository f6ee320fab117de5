"""Tests of finding the programs of peers."""

from pathlib import Path

import pytest

from tests.peers.programs import needed

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(("said", "outcome"), [("", SKIPPED), ("no", SKIPPED), ("required", FAILED)])
def test_an_absent_peer_skips_unless_peers_are_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TEST_PEERS", said)
    with pytest.raises(outcome, match="skopeo is not installed"):
        needed("skopeo")


def test_a_peer_that_is_installed_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "skopeo"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert needed("skopeo") == str(program)
