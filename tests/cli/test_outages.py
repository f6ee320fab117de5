"""Tests of hosts that cannot be reached for a moment: refused connections and failures of DNS."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole
from tests.support.gateway import gateway
from tests.support.registry import Action, EmbeddedRegistry, Fault, Redirect, serving
from tests.support.registry.messages import Answer, Call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_exchange")]

IMAGE = images.image("linux/amd64", images.layer(1, 100_000))
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))


@dataclass(frozen=True)
class Outage(Action):
    """Calls a function before the request is answered."""

    begin: Callable[[], None]

    def on_call(self, call: Call) -> Call | Answer:
        self.begin()
        return call


@pytest.mark.parametrize("retries", [1, 0])
def test_transfer_survives_a_restart_of_the_registry(mirror: Mirror, registry: EmbeddedRegistry, retries: int) -> None:
    IMAGE.publish(registry, "a", "v1")
    with gateway(registry.host) as front:
        registry.fault(Fault(path=f"/blobs/{LAYER}", action=Outage(lambda: front.go_down(0.8))))
        found = mirror("pull", f"{front.host}/a:v1", "--retries", 4 * retries, code=0 if retries else 1)
    if retries:
        assert_whole(mirror.folder / "layout")
    else:
        assert "error:" in found.err


def test_push_survives_a_restart_of_the_registry(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGE.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1")
    with gateway(registry.host) as front:
        registry.fault(Fault(method="PUT", path="/manifests/", action=Outage(lambda: front.go_down(0.8))))
        mirror("push", "layout", f"{front.host}/copy")
    assert registry.tags("copy/a") == {"v1": IMAGE.root}


def test_storage_that_restarts_is_waited_for(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """A redirect's target counts as soon as it has answered, like the registry itself."""
    IMAGE.publish(registry, "a", "v1")
    with serving(EmbeddedRegistry()) as storage, gateway(storage.host) as front:
        IMAGE.publish(storage, "a", "v1")
        for digest in IMAGE.blobs:
            registry.fault(
                Fault(path=f"/blobs/{digest}", times=None, action=Redirect(f"http://{front.host}/v2/a/blobs/{digest}"))
            )
        storage.fault(Fault(path="/blobs/", skip=1, action=Outage(lambda: front.go_down(0.8))))
        mirror("pull", f"{registry.host}/a:v1", "-j", 1)
    assert_whole(mirror.folder / "layout")


def test_host_that_never_answered_is_not_tried_again(mirror: Mirror) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = mirror("pull", f"127.0.0.1:{port}/a:v1", "-v", code=1)
    assert f"Cannot connect to 127.0.0.1:{port}: connection refused." in found.err
    assert "Trying again" not in found.err


def failing(monkeypatch: pytest.MonkeyPatch, *failures: int | None) -> list[str]:
    """Let look-ups of registry.test fail in this order (None: success); later ones succeed. Return the look-ups."""
    resolve, left, asked = socket.getaddrinfo, list(failures), list[str]()

    def getaddrinfo(host: Any, *args: Any, **named: Any) -> Any:
        if host != "registry.test":
            return resolve(host, *args, **named)
        asked.append(host)
        failure = left.pop(0) if left else None
        if failure is not None:
            raise socket.gaierror(failure, "DNS fails")
        return resolve("127.0.0.1", *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_busy_name_server_is_asked_again_even_at_the_start(
    mirror: Mirror, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    IMAGE.publish(registry, "a", "v1")
    asked = failing(monkeypatch, socket.EAI_AGAIN, socket.EAI_AGAIN)
    mirror("pull", f"registry.test:{registry.host.rpartition(':')[2]}/a:v1", "--plain-http")
    assert len(asked) > 2
    assert_whole(mirror.folder / "layout")


def test_use_of_tls_is_probed_until_the_registry_can_be_reached(
    mirror: Mirror, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    IMAGE.publish(registry, "a", "v1")
    host = f"registry.test:{registry.host.rpartition(':')[2]}"
    conf = mirror.folder / "home/.config/containers/registries.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    failing(monkeypatch, socket.EAI_AGAIN)
    mirror("pull", f"{host}/a:v1")
    assert_whole(mirror.folder / "layout")


def test_unknown_name_is_an_error_at_once(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = failing(monkeypatch, socket.EAI_NONAME, socket.EAI_NONAME)
    assert "name not known" in mirror("pull", "registry.test:5000/a:v1", "--plain-http", code=1).err
    assert asked == ["registry.test"]
