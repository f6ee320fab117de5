"""Tests of `registries.conf` with every command: blocked, insecure, mirrored and moved registries."""

from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, blob_path
from tests.support.registry import Basic, EmbeddedRegistry, serving

IMAGE = images.multi_arch()
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
USERS = {"ann": "secret"}


@pytest.fixture
def shop(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    IMAGE.publish(registry, "a", "v1")
    return registry


def registries_conf(mirror: Mirror, text: str) -> Path:
    """Write the file in the home directory that podman reads, too."""
    path = mirror.folder / "home/.config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


COMMANDS = {
    "pull": ["pull", "HOST/a:v1", "-o", "other"],
    "push": ["push", "layout", "HOST"],
    "copy from": ["copy", "docker://HOST/a:v1", "oci:other"],
    "copy to": ["copy", "oci:layout", "docker://HOST/b:v1"],
    "inspect": ["inspect", "HOST/a:v1"],
    "record": ["record", "HOST/a:v1"],
    "tags": ["tags", "HOST/a"],
    "verify docker://": ["verify", "docker://HOST/a:v1"],
    "verify --receipt": ["verify", "--receipt", "receipt.json"],
}


@pytest.fixture
def blocked(mirror: Mirror, shop: EmbeddedRegistry) -> EmbeddedRegistry:
    """A registry that is blocked, after an image was pulled from it and pushed to it."""
    mirror("pull", f"{shop.host}/a:v1", "--all")
    mirror("push", "layout", f"{shop.host}/pushed", "--receipt", "receipt.json")
    registries_conf(mirror, f'[[registry]]\nlocation = "{shop.host}"\nblocked = true')
    shop.clear_log()
    return shop


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_blocked_registry_is_refused_by_every_command(
    mirror: Mirror, blocked: EmbeddedRegistry, command: str
) -> None:
    """Check pushes too, although containers-registries.conf(5) mentions only pulls."""
    refused = mirror(*(word.replace("HOST", blocked.host) for word in COMMANDS[command]), code=2)
    assert f"{blocked.host}/" in refused.err
    assert "is blocked by" in refused.err
    assert "registries.conf" in refused.err
    assert blocked.requests == []


def test_login_to_a_blocked_registry_is_refused(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    file = registries_conf(mirror, f'[[registry]]\nlocation = "{registry.host}"\nblocked = true')
    line = ["login", registry.host, "--username", "ann", "--password-stdin", "--authfile", "auth.json"]
    assert mirror(*line, stdin=USERS["ann"], code=2).err == (
        f"error: {registry.host} is blocked by {file}.\n"
        f"hint: If that is wrong, remove blocked = true for {registry.host} from that file.\n"
    )
    assert registry.requests == []
    assert not (mirror.folder / "auth.json").exists()


@pytest.mark.slow
def test_blocked_registry_is_not_used_for_repair(mirror: Mirror, blocked: EmbeddedRegistry, tmp_path: Path) -> None:
    blob_path(tmp_path / "layout", LAYER).unlink()
    refused = mirror("verify", "layout", "--repair", "--from", f"docker://{blocked.host}", code=3)
    assert "is blocked by" in refused.err + refused.out
    assert blocked.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mirror", "location"])
def test_record_uses_the_mirror_or_the_location_of_a_registry(
    mirror: Mirror, shop: EmbeddedRegistry, mode: str
) -> None:
    """The registry itself is not reachable behind an air gap; its mirror, or its new location, is."""
    lines = {
        "mirror": f'location = "127.0.0.1:1/x"\n[[registry.mirror]]\nlocation = "{shop.host}"',
        "location": f'location = "{shop.host}"',
    }
    registries_conf(mirror, f'[[registry]]\nprefix = "old.example/x"\n{lines[mode]}')
    expected = mirror("record", f"{shop.host}/a:v1", "--as", "old.example/x/a:v1").out
    assert mirror("record", "old.example/x/a:v1").out == expected


def address_not_known_as_local(registry: EmbeddedRegistry) -> str:
    """An address of this machine that does not count as a local one."""
    return f"0.0.0.0:{registry.host.partition(':')[2]}"


@pytest.mark.slow
def test_insecure_applies_to_every_command(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Basic(USERS))) as registry:
        IMAGE.publish(registry, "a", "v1")
        host = address_not_known_as_local(registry)
        assert "--plain-http" in mirror("tags", f"{host}/a", "--retries", 0, code=1).err
        registries_conf(mirror, f'[[registry]]\nlocation = "{host}"\ninsecure = true')
        mirror("login", host, "--username", "ann", "--password-stdin", stdin=USERS["ann"])
        assert mirror("tags", f"{host}/a").lines == ["v1"]
        mirror("inspect", f"{host}/a:v1")
        mirror("record", f"{host}/a:v1")
        mirror("pull", f"{host}/a:v1", "--all")
        mirror("push", "layout", f"{host}/b", "--receipt", "receipt.json")
        mirror("verify", "--receipt", "receipt.json")
        assert registry.tags("b/a") == {"v1": IMAGE.root}


def test_tags_are_listed_from_the_location_of_a_prefix(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    registries_conf(mirror, f'[[registry]]\nprefix = "old.example/x"\nlocation = "{shop.host}"')
    assert mirror("tags", "old.example/x/a").lines == ["v1"]
