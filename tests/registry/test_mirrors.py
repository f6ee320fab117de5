"""Tests of registry mirrors: their order, failures, wrong content, tags, and `registries.conf`."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given

import mirror
from mirror.config.hosts import HostSettings
from mirror.config.registriesconf import RegistriesConf
from mirror.content import stream
from mirror.content.store import Source
from mirror.errors import ConfigError, DigestMismatch, NotFound, StaleMirror, TransferError, UsageError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, MirroredRepository, RegistryOptions, open_source
from mirror.registry.mirrors import repository as mirrored
from mirror.registry.mirrors.endpoints import Endpoint, source_endpoints, target_endpoint
from mirror.retry import RetryPolicy
from tests.support import images
from tests.support.registry import Cut, EmbeddedRegistry, Extend, Fault, Flip, Status, Truncate, serving
from tests.support.strategies import QUICK, nasty_text

pytestmark = pytest.mark.usefixtures("each_exchange")

IMAGE = images.image("linux/amd64", images.layer(1, 1000))
OTHER = images.image("linux/amd64", images.layer(2, 1000))
DATA = b"content" * 1000
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
SOON = RetryPolicy(retries=3, delay=0.001)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "CONTAINERS_REGISTRIES_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("mirror.config.registriesconf._SYSTEM", tmp_path / "etc")
    return tmp_path


@pytest.fixture
def three() -> Iterator[list[EmbeddedRegistry]]:
    """Yield a registry and two mirrors of it."""
    with serving(EmbeddedRegistry()) as origin, serving(EmbeddedRegistry()) as one, serving(EmbeddedRegistry()) as two:
        for registry in (origin, one, two):
            registry.put_blob("a", DATA)
            IMAGE.publish(registry, "a", "v1")
        yield [origin, one, two]


class Pulling:
    """A source with mirrors, and its warnings."""

    def __init__(self, three: list[EmbeddedRegistry], **settings: object) -> None:
        hosts = [registry.host for registry in three[1:]]
        host = HostSettings(mirrors=tuple(hosts), **settings)  # type: ignore[arg-type]
        self.options = RegistryOptions(hosts={three[0].host: host}, timeout=5)
        self.name = f"{three[0].host}/a:v1"
        self.notes: list[str] = []

    def run(self, *names: str, retry: RetryPolicy = SOON) -> list[object]:
        """Resolve each name in turn; for an empty name, fetch the blob."""
        return asyncio.run(self._run(names, retry))

    async def _run(self, names: tuple[str, ...], retry: RetryPolicy) -> list[object]:
        async with Client(self.options) as client:
            self.notes = client.warnings
            source = open_source(client, Reference.parse(self.name))
            assert isinstance(source, MirroredRepository)

            async def fetch() -> bytes:
                async with source.open_blob(NODE) as body:
                    return await stream.read(body, NODE)

            found: list[object] = []
            for name in names:
                found.append(await retry.run(lambda name=name: source.resolve(name) if name else fetch()))  # type: ignore[misc]
            return found


def request_counts(three: list[EmbeddedRegistry], path: str = "") -> list[int]:
    return [registry.count("GET", path) for registry in three]


# Order


def test_mirrors_are_tried_in_order_before_the_registry(three: list[EmbeddedRegistry]) -> None:
    assert Pulling(three).run("") == [DATA]
    assert request_counts(three) == [0, 1, 0]
    three[1].fault(Fault(times=None, action=Status(404)))
    assert Pulling(three).run("") == [DATA]
    assert request_counts(three) == [0, 2, 1]
    three[2].fault(Fault(times=None, action=Status(404)))
    assert Pulling(three).run("") == [DATA]
    assert request_counts(three) == [1, 3, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [Status(404), Status(500), Status(401), Status(403), Status(429), Cut(None), Cut(0), Status(200, body=b"<html>")],
)
def test_failed_mirror_is_skipped_with_a_warning(three: list[EmbeddedRegistry], fault: Status | Cut) -> None:
    three[1].fault(Fault(times=None, action=fault))
    pulling = Pulling(three)
    found = pulling.run("v1", "", retry=RetryPolicy(0) if isinstance(fault, Status) else SOON)
    assert [getattr(found[0], "digest", None), found[1]] == [IMAGE.root, DATA]
    assert len(pulling.notes) in (1, 2)
    assert all(note.startswith(f"The mirror {three[1].host}/a was skipped: ") for note in pulling.notes)
    assert request_counts([three[0]]) == [0]


def test_mirror_without_response_is_tried_last_for_a_while(
    three: list[EmbeddedRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    three[1].fault(Fault(times=None, action=Cut(None)))
    Pulling(three).run("v1")
    tried = three[1].count("GET")
    three[1].clear_log()
    Pulling(three).run("v1", "", "", "")
    assert three[1].count("GET") == tried
    monkeypatch.setattr(mirrored, "_COOLDOWN", 0.0)
    Pulling(three).run("v1", "")
    assert three[1].count("GET") > 2 * tried
    assert request_counts([three[0]]) == [0]


def test_failing_registry_does_not_matter_if_a_mirror_has_the_blob(three: list[EmbeddedRegistry]) -> None:
    """Behind an air gap only the mirror can be reached, and it may fail once."""
    three[0].fault(Fault(times=None, action=Status(403)))
    three[1].fault(Fault(times=1, action=Status(503)))
    three[2].fault(Fault(times=None, action=Status(404)))
    assert Pulling(three).run("") == [DATA]


def test_missing_image_is_an_error_of_the_registry_that_names_all_mirrors(three: list[EmbeddedRegistry]) -> None:
    with pytest.raises(NotFound, match=f"There is no image {three[0].host}/a:v2") as caught:
        Pulling(three).run("v2")
    for registry in three[1:]:
        assert f"Mirror {registry.host}/a: There is no image" in (caught.value.hint or "")


# Wrong content


@pytest.mark.parametrize("lie", [Flip(0), Extend(b"x"), Truncate(1)])
def test_wrong_content_of_a_mirror_is_fetched_again_from_the_next(
    three: list[EmbeddedRegistry], lie: Flip | Extend | Truncate
) -> None:
    three[1].fault(Fault(path="/blobs/", times=None, action=lie))
    pulling = Pulling(three)
    assert pulling.run("", "") == [DATA, DATA]
    assert request_counts(three, "/blobs/") == [0, 1, 2]
    assert len(pulling.notes) == 1
    assert f"The mirror {three[1].host}/a was skipped: {NODE.digest} from {three[1].host}/a" in pulling.notes[0]


def test_wrong_content_of_each_mirror_is_reported_once(three: list[EmbeddedRegistry]) -> None:
    for registry in three[1:]:
        registry.fault(Fault(path="/blobs/", times=None, action=Flip(0)))
    pulling = Pulling(three)
    assert pulling.run("", "") == [DATA, DATA]
    assert request_counts(three, "/blobs/") == [2, 1, 1]
    assert len(pulling.notes) == 2


def test_wrong_content_of_a_mirror_is_an_error_without_retries(three: list[EmbeddedRegistry]) -> None:
    three[1].fault(Fault(path="/blobs/", times=None, action=Flip(0)))
    with pytest.raises(StaleMirror) as caught:
        Pulling(three).run("", retry=RetryPolicy(0))
    assert caught.value.exit_code == 3


async def resume(source: Source) -> None:
    """Fetch the rest of a blob whose first bytes are wrong."""
    async with source.open_blob(NODE, 10) as body:
        assert body.start == 10
        check = stream.Verifier(NODE)
        check.update([b"x" * 10])
        async for chunk in body.chunks:
            check.update([chunk])
        check.finish("it")


def test_mirror_is_not_skipped_if_the_resumed_part_may_be_wrong(three: list[EmbeddedRegistry]) -> None:
    """The first bytes are from an earlier run, and may be the wrong ones."""

    async def run() -> None:
        async with Client(Pulling(three).options) as client:
            source = open_source(client, Reference.parse(f"{three[0].host}/a:v1"))
            with pytest.raises(DigestMismatch):
                await resume(source)
            async with source.open_blob(NODE) as body:
                assert await stream.read(body, NODE) == DATA

    asyncio.run(run())
    assert request_counts(three) == [0, 2, 0]


def test_pinned_digest_is_checked_for_mirrors_too(three: list[EmbeddedRegistry]) -> None:
    """GHSA-qv35-3gw6-8q4j."""
    three[1].fault(Fault(path="/manifests/", times=None, action=Status(200, body=OTHER.data)))
    pulling = Pulling(three)
    found = pulling.run(IMAGE.root)
    assert getattr(found[0], "digest", None) == IMAGE.root
    assert "does not match its digest" in pulling.notes[0]


# Tags


def test_tag_of_a_mirror_may_be_out_of_date(three: list[EmbeddedRegistry]) -> None:
    """The default, as in other tools."""
    OTHER.publish(three[0], "a", "v1")
    assert getattr(Pulling(three).run("v1")[0], "digest", None) == IMAGE.root
    assert request_counts(three) == [0, 1, 0]


def test_mirror_tags_false_resolves_tags_at_the_registry(three: list[EmbeddedRegistry]) -> None:
    OTHER.publish(three[0], "a", "v1")
    found = Pulling(three, mirror_tags=False).run("v1", "")
    assert getattr(found[0], "digest", None) == OTHER.root
    assert request_counts(three, "/manifests/") == [1, 0, 0]
    assert request_counts(three, "/blobs/") == [0, 1, 0]


# Endpoints from mirror.toml and registries.conf


def conf(home: Path, text: str, name: str = ".config/containers/registries.conf") -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def places(name: str, options: RegistryOptions | None = None) -> list[str]:
    mirrors, origin = source_endpoints(Reference.parse(name), options or RegistryOptions(), RegistriesConf.load())
    return [shown(endpoint) for endpoint in (*mirrors, origin)]


def shown(endpoint: Endpoint) -> str:
    marks = {"insecure": endpoint.insecure, "no tags": not endpoint.tags, "no digests": not endpoint.digests}
    return " ".join([f"{endpoint.registry}/{endpoint.repository}", *(mark for mark, on in marks.items() if on)])


def test_name_without_settings_has_only_its_own_endpoint() -> None:
    assert places("redis") == ["docker.io/library/redis"]


def test_mirror_of_a_host_is_a_prefix_of_its_repositories() -> None:
    hosts = {"docker.io": HostSettings(mirrors=("mirror.internal:5000/hub", "[::1]:5000"), mirror_tags=False)}
    assert places("redis", RegistryOptions(hosts=hosts)) == [
        "mirror.internal:5000/hub/library/redis no tags",
        "[::1]:5000/library/redis no tags",
        "docker.io/library/redis",
    ]


EXAMPLE = """
unqualified-search-registries = ["example.com"]

[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal.example.com/bar"

[[registry.mirror]]
location = "mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "registry.com"

[[registry.mirror]]
location = "mirror.registry.com"
pull-from-mirror = "digest-only"

[[registry.mirror]]
location = "fresh.registry.com"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "*.wild.com"
insecure = true

[[registry]]
prefix = "deep.wild.com/x"
location = "other.com/y"
mirror-by-digest-only = true

[[registry.mirror]]
location = "m.com"

[[registry]]
location = "evil.com"
blocked = true
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "example.com/foo/image:latest",
            [
                "mirror-0.local/mirror-for-foo/image",
                "mirror-1.local/mirrors/foo/image insecure",
                "internal.example.com/bar/image",
            ],
        ),
        ("example.com/foobar/image", ["example.com/foobar/image"]),
        ("example.com/other", ["example.com/other"]),
        ("example.com:5000/foo/image", ["example.com:5000/foo/image"]),
        (
            "registry.com/a/b",
            ["mirror.registry.com/a/b no tags", "fresh.registry.com/a/b no digests", "registry.com/a/b"],
        ),
        ("a.b.wild.com:5000/c", ["a.b.wild.com:5000/c insecure"]),
        ("wild.com/c", ["wild.com/c"]),
        ("notwild.com/c", ["notwild.com/c"]),
        ("deep.wild.com/x/c", ["m.com/c no tags", "other.com/y/c"]),
        ("deep.wild.com/z", ["deep.wild.com/z insecure"]),
    ],
)
def test_registries_conf_follows_its_manual(home: Path, name: str, found: list[str]) -> None:
    """The example of containers-registries.conf(5), and more."""
    conf(home, EXAMPLE)
    assert places(name) == found


def test_blocked_registry_is_refused_for_pull_and_push(home: Path) -> None:
    path = conf(home, EXAMPLE)
    for ask in (lambda reference, rules: source_endpoints(reference, RegistryOptions(), rules), target_endpoint):
        with pytest.raises(UsageError, match=r"evil\.com/a is blocked by") as caught:
            ask(Reference.parse("evil.com/a"), RegistriesConf.load())
        assert str(path) in str(caught.value)


def test_push_ignores_mirrors_and_locations(home: Path) -> None:
    """Mirrors and locations are for reading only, as in podman."""
    conf(home, EXAMPLE)
    assert shown(target_endpoint(Reference.parse("example.com/foo/a"), RegistriesConf.load())) == "example.com/foo/a"
    assert shown(target_endpoint(Reference.parse("x.wild.com/a"), RegistriesConf.load())) == "x.wild.com/a insecure"


def test_mirrors_of_mirror_toml_replace_those_of_registries_conf(home: Path) -> None:
    conf(home, EXAMPLE)
    options = RegistryOptions(hosts={"registry.com": HostSettings(mirrors=("own.internal",))})
    assert places("registry.com/a", options) == ["own.internal/a", "registry.com/a"]


@pytest.mark.slow
def test_repositories_are_opened_by_open_source_and_open_target_only() -> None:
    """Other code that opens a repository would ignore mirrors and blocked registries."""
    package = Path(mirror.__file__).parent
    others = [path for path in package.rglob("*.py") if not path.is_relative_to(package / "registry")]
    users = [path for path in others if "from mirror.registry import" in path.read_text()]
    assert users
    for path in users:
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        names = {ast.unparse(called).rpartition(".")[2] for called in calls}
        assert not names & {"Repository", "Registry", "registry"}, path


# Files


def one(location: str) -> str:
    return f'[[registry]]\nprefix = "a.com"\nlocation = "{location}"'


USER, SYSTEM = ".config/containers/registries.conf", "etc/registries.conf"


@pytest.mark.parametrize(
    ("files", "winner"),
    [
        ({SYSTEM: "system.com"}, "system.com"),
        ({SYSTEM: "system.com", USER: "user.com"}, "user.com"),
        ({SYSTEM: "system.com", f"{SYSTEM}.d/1.conf": "dropped.com"}, "dropped.com"),
        ({f"{SYSTEM}.d/2.conf": "second.com", f"{SYSTEM}.d/1.conf": "first.com"}, "second.com"),
        ({f"{SYSTEM}.d/2.conf": "system.com", f"{USER}.d/1.conf": "user.com"}, "user.com"),
        ({USER: "user.com", f"{SYSTEM}.d/1.conf": "dropped.com"}, "user.com"),
        ({USER: "user.com", f"{USER}.d/1.conf": "dropped.com"}, "dropped.com"),
        ({USER: "user.com", f"{USER}.d/1.txt": "ignored.com"}, "user.com"),
        ({USER: "user.com", "named.conf": "named.com"}, "named.com"),
        ({"named.conf": "named.com", f"{SYSTEM}.d/1.conf": "dropped.com"}, "dropped.com"),
    ],
)
def test_files_have_the_locations_and_the_order_of_podman(
    home: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], winner: str
) -> None:
    """containers-registries.conf.d(5)."""
    for name, location in files.items():
        conf(home, one(location), name)
    if "named.conf" in files:
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(home / "named.conf"))
    assert places("a.com/x") == [f"{winner}/x"]


def test_missing_file_of_the_environment_variable_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(home / "missing.conf"))
    with pytest.raises(ConfigError, match=r"missing\.conf cannot be read"):
        RegistriesConf.load()


def test_first_table_with_a_prefix_is_used(home: Path) -> None:
    conf(home, one("first.com") + "\n" + one("second.com"))
    assert places("a.com/x") == ["first.com/x"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[[registry]", "is not valid TOML"),
        ("registry = 1", "registry should be a list of tables"),
        ('registry = ["a"]', "registry should be a list of tables"),
        ("[[registry]]", "is not a registry, namespace or repository"),
        ('[[registry]]\nprefix = "a.com"', "has no location"),
        ('[[registry]]\nlocation = "https://a.com"', "is not a registry, namespace or repository"),
        ('[[registry]]\nprefix = "a.com/x:1"\nlocation = "b.com"', "is not a registry, namespace or repository"),
        ('[[registry]]\nprefix = "*.a.com/x"', "is not a registry, namespace or repository"),
        ("[[registry]]\nlocation = 1", "location should be a string"),
        ('[[registry]]\nlocation = "a.com"\ninsecure = "yes"', "insecure should be true or false"),
        ('[[registry]]\nlocation = "a.com"\nmirror = 1', "should be a list of tables"),
        ('[[registry]]\nlocation = "a.com"\n[[registry.mirror]]', "a mirror has no location"),
        (
            '[[registry]]\nlocation = "a.com"\n[[registry.mirror]]\nlocation = "b.com"\npull-from-mirror = "never"',
            "all, digest-only or tag-only, not 'never'",
        ),
        ('[registries.block]\nregistries = ["a.com"]', "version 1 of its format"),
        ('[registries.insecure]\nregistries = ["a.com"]', "version 1 of its format"),
    ],
)
def test_error_names_the_invalid_file(home: Path, text: str, match: str) -> None:
    path = conf(home, text)
    with pytest.raises(ConfigError, match=match) as caught:
        RegistriesConf.load()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        'unqualified-search-registries = ["a.com"]\nshort-name-mode = "enforcing"\n[aliases]\nx = "b.com/x"',
        '[registries.search]\nregistries = ["a.com"]\n[registries.insecure]\nregistries = []\n[registries.block]\n',
        'credential-helpers = ["x"]',
        "",
    ],
)
def test_other_settings_of_registries_conf_are_ignored(home: Path, text: str) -> None:
    """Short names follow docker's rules; old systems have a version 1 file with only a search list."""
    conf(home, text)
    assert places("x") == ["docker.io/library/x"]


@pytest.mark.parametrize(
    ("text", "name", "match"),
    [
        ('[[registry]]\nprefix = "a.com/x/y"\nlocation = "b.com"', "a.com/x/y", "which is not a repository"),
        ('[[registry]]\nlocation = "a.com"\nproxy = "http://p:1"', "a.com/x", "sets a proxy for"),
    ],
)
def test_unsupported_setting_is_an_error_for_its_registry_only(home: Path, text: str, name: str, match: str) -> None:
    conf(home, text)
    with pytest.raises(ConfigError, match=match):
        places(name)
    assert places("other.com/x") == ["other.com/x"]


@given(nasty_text)
@QUICK
def test_any_file_is_read_or_refused(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        path = Path.home() / "nasty.conf"
        path.write_text(f"[[registry]]\nprefix = '''{text}'''\nlocation = '''{text}'''", errors="replace")
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
        try:
            RegistriesConf.load()
        except ConfigError as error:
            assert str(path) in str(error)  # noqa: PT017 either is right


# An insecure registry of registries.conf: without TLS, or with any certificate


@pytest.mark.slow
def test_insecure_applies_only_to_its_location(home: Path) -> None:
    with serving(EmbeddedRegistry(address="127.0.0.1")) as registry:
        port = registry.host.partition(":")[2]
        registry.put_blob("open", DATA)
        conf(home, f'[[registry]]\nprefix = "0.0.0.0:{port}/open"\nlocation = "0.0.0.0:{port}/open"\ninsecure = true')

        async def run(name: str) -> bytes:
            async with Client(RegistryOptions()) as client:
                source = open_source(client, Reference.parse(f"0.0.0.0:{port}/{name}"))
                async with source.open_blob(NODE) as body:
                    return await stream.read(body, NODE)

        assert asyncio.run(run("open")) == DATA
        with pytest.raises(TransferError, match="the TLS handshake failed"):
            asyncio.run(run("closed"))
