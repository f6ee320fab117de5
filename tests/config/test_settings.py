"""Tests of settings: their files, keys and values, and their precedence."""

import itertools
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given

from mirror.cli import mirror
from mirror.cli.remote import DEFAULT_JOBS, DEFAULT_RETRIES
from mirror.config import settings as config
from mirror.config.hosts import HostSettings
from mirror.errors import ConfigError, PartialFailure, StorageError, TransferError
from tests.support import images
from tests.support.command import entries
from tests.support.registry import EmbeddedRegistry, Fault, Status, serving
from tests.support.strategies import QUICK, nasty_text

DOCUMENTED = Path(__file__).parents[2] / "mirror.toml"
IMAGE = images.multi_arch(["linux/amd64", "linux/arm/v7"], sizes=[100])
DEFAULTS = {
    "output": "layout",
    "jobs": DEFAULT_JOBS,
    "retries": DEFAULT_RETRIES,
    "all_platforms": False,
    "sparse": False,
    "keep_going": False,
    "no_progress": False,
    "authfile": "~/.config/mirror/auth.json",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty current directory, with a home without files."""
    for name in list(os.environ):
        if name.startswith("MIRROR_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "home" / ".docker"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


def own(text: str | bytes) -> Path:
    """Write the settings file of the user."""
    path = Path.home() / ".config" / "mirror" / "mirror.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def local(text: str | bytes) -> Path:
    """Write a settings file in the current directory."""
    Path("mirror.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return Path("mirror.toml")


# Files


def test_without_files_there_are_no_settings() -> None:
    found = config.load()
    assert (found.values, found.files, found.ignored) == ({}, (), ())


def test_local_file_overrides_the_users_file_key_by_key() -> None:
    own('output = "own"\njobs = 2')
    local('output = "local"\nretries = 1')
    assert config.load().values == {"output": "local", "jobs": 2, "retries": 1}


def test_given_file_replaces_the_other_files(tmp_path: Path) -> None:
    own("jobs = 2")
    local("retries = 1")
    (tmp_path / "other.toml").write_text("sparse = true")
    assert config.load(tmp_path / "other.toml").values == {"sparse": True}


def test_used_files_are_listed() -> None:
    path = own("jobs = 2")
    local("jobs = 3")
    assert config.load().files == (str(path), "mirror.toml")


def test_file_without_settings_is_not_listed() -> None:
    own("")
    local("# jobs = 3\n")
    assert config.load().files == ()


def test_users_file_is_found_by_xdg_config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own("jobs = 2")
    (tmp_path / "xdg" / "mirror").mkdir(parents=True)
    (tmp_path / "xdg" / "mirror" / "mirror.toml").write_text("jobs = 5")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config.load().values == {"jobs": 5}


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        ('platform = ["linux/amd64"]', "all_platforms = true", {"all_platforms": True}),
        ("all_platforms = true", 'platform = ["linux/amd64"]', {"platform": ["linux/amd64"]}),
        ("all_platforms = true", "jobs = 1", {"all_platforms": True, "jobs": 1}),
        ('platform = ["a/b"]', "all_platforms = false", {"all_platforms": False}),
    ],
)
def test_platform_and_all_platforms_override_each_other(first: str, second: str, values: dict[str, Any]) -> None:
    own(first)
    local(second)
    assert config.load().values == values


# Settings that weaken security


@pytest.mark.parametrize("key", ["plain_http", "insecure"])
def test_insecure_setting_of_the_users_file_is_used(key: str) -> None:
    own(f'{key} = ["registry.internal:5000"]')
    assert getattr(config.load(), key) == {"registry.internal:5000"}


@pytest.mark.parametrize("key", ["plain_http", "insecure"])
def test_insecure_setting_of_the_local_file_is_ignored_and_reported(key: str) -> None:
    own(f'{key} = ["mine.internal"]')
    local(f'{key} = ["evil.example"]\njobs = 3')
    found = config.load()
    assert getattr(found, key) == {"mine.internal"}
    assert found.values == {"jobs": 3}
    assert len(found.ignored) == 1
    assert f"{key} is ignored" in found.ignored[0]


@pytest.mark.parametrize("key", ["plain_http", "insecure"])
def test_file_with_only_ignored_keys_is_not_listed(key: str) -> None:
    local(f'{key} = ["evil.example"]')
    assert config.load().files == ()


@pytest.mark.parametrize("key", ["plain_http", "insecure"])
def test_insecure_setting_of_a_given_file_is_used(key: str) -> None:
    assert getattr(config.load(local(f'{key} = ["registry.internal"]')), key) == {"registry.internal"}


def test_local_link_to_the_users_file_is_a_local_file() -> None:
    """Trust depends on the place where the file was found."""
    Path("mirror.toml").symlink_to(own('insecure = ["mine.internal"]'))
    found = config.load()
    assert found.insecure == {"mine.internal"}
    assert len(found.ignored) == 1


@pytest.mark.parametrize("line", ['ca_file = "evil.pem"', '[host."docker.io"]\nmirrors = ["evil.example"]'])
def test_ca_file_and_mirrors_of_the_local_file_are_ignored(line: str) -> None:
    own('ca_file = "mine.pem"\n[host."docker.io"]\nmirrors = ["mine.example"]')
    local(line)
    found = config.load()
    assert found.hosts["docker.io"].mirrors == ("mine.example",)
    assert found.values["ca_file"].endswith("mine.pem")
    assert len(found.ignored) == 1
    assert "it weakens security" in found.ignored[0]


def test_local_file_cannot_leave_out_referrers() -> None:
    own("all_platforms = true")
    local("referrers = false\njobs = 3")
    found = config.load()
    assert found.values == {"all_platforms": True, "jobs": 3}
    assert ["referrers is ignored" in text for text in found.ignored] == [True]


def test_local_file_may_ask_for_referrers_and_the_users_file_may_leave_them_out() -> None:
    own("referrers = false")
    assert config.load().values == {"referrers": False}
    local("referrers = true")
    assert (config.load().values, config.load().ignored) == ({"referrers": True}, ())


# Single hosts


def test_settings_of_a_host_are_read() -> None:
    path = own(
        """
        [host."registry.internal:5000"]
        plain_http = true
        insecure = true
        ca_file = "ca.pem"
        client_cert = "/etc/client.pem"
        client_key = "~/client.key"
        mirrors = ["a.internal/hub/", "b.internal:5000", "[::1]:5000"]
        mirror_tags = false
        trusted_networks = ["10.20.0.0/16", "fd00::/8", "10.0.0.1"]
        """
    )
    assert config.load().hosts["registry.internal:5000"] == HostSettings(
        plain_http=True,
        insecure=True,
        ca_file=str(path.parent / "ca.pem"),
        client_cert="/etc/client.pem",
        client_key=str(Path.home() / "client.key"),
        mirrors=("a.internal/hub", "b.internal:5000", "[::1]:5000"),
        mirror_tags=False,
        trusted_networks=tuple(map(ip_network, ("10.20.0.0/16", "fd00::/8", "10.0.0.1/32"))),
    )


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("mirror = []", "unknown key 'mirror'"),
        ("mirrors = 1", "mirrors should be a list of locations"),
        ('mirrors = ["https://mirror.internal"]', "mirrors should be a list of locations"),
        ('mirrors = ["mirror.internal/UPPER"]', "mirrors should be a list of locations"),
        ('mirrors = [""]', "mirrors should be a list of locations"),
        ('mirror_tags = "yes"', "mirror_tags should be true or false"),
        ('trusted_networks = ["10.0.0.1/8"]', "trusted_networks should be a list of networks"),
        ('trusted_networks = ["internal"]', "trusted_networks should be a list of networks"),
        ("trusted_networks = [1]", "trusted_networks should be a list of networks"),
        ("insecure = 1", "insecure should be true or false"),
        ('client_key = "key.pem"', "client_key but no client_cert"),
        ('ca_file = ""', "ca_file should be a file"),
    ],
)
def test_error_in_a_host_table_contains_the_host(table: str, match: str) -> None:
    own(f'[host."a.internal"]\n{table}')
    with pytest.raises(ConfigError, match=match) as caught:
        config.load()
    assert '[host."a.internal"]' in str(caught.value)


@pytest.mark.parametrize("text", ["host = 1", 'host = ["a"]', "host.a = 1", '[host."http://a"]', '[host."a/b"]'])
def test_host_settings_must_be_tables_with_valid_host_names(text: str) -> None:
    own(text)
    with pytest.raises(ConfigError, match="host should be tables"):
        config.load()


# Invalid files


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("job", "jobs"),
        ("Jobs", "jobs"),
        ("retry", "retries"),
        ("out", "output"),
        ("platforms", "platform"),
        ("all-platforms", "all_platforms"),
        ("plain-http", "plain_http"),
        ("insecur", "insecure"),
        ("keepgoing", "keep_going"),
        ("progress", "no_progress"),
    ],
)
def test_unknown_key_is_an_error_that_suggests_the_nearest_key(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'") as caught:
        config.load(local(f"{key} = 1"))
    assert caught.value.hint == f"Did you mean {near!r}?"
    assert caught.value.exit_code == 2


@given(nasty_text)
@QUICK
def test_error_for_any_unknown_key_is_printable(key: str) -> None:
    quoted = "".join(f"\\U{ord(char):08x}" for char in key if not 0xD800 <= ord(char) < 0xE000)
    with pytest.raises(ConfigError) as caught:
        config.load(local(f'"{quoted}x" = 1'))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("section", ["[pull]\njobs = 2", "[[images]]\nname = 'a'", "pull.jobs = 2"])
def test_sections_are_unknown_keys(section: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        config.load(local(section))


@pytest.mark.parametrize(
    "line",
    [
        "output = 1",
        'output = ""',
        "output = true",
        'jobs = "4"',
        "jobs = 1.5",
        "jobs = -1",
        "jobs = true",
        "retries = -1",
        "retries = [1]",
        'platform = "linux/amd64"',
        "platform = [1]",
        "platform = {}",
        "all_platforms = 1",
        'all_platforms = "true"',
        "sparse = 0",
        "keep_going = []",
        "no_progress = 2020-01-01",
        "plain_http = true",
        'plain_http = "registry.internal"',
        "insecure = [1]",
        'insecure = ["https://registry.internal"]',
        'insecure = ["registry.internal/path"]',
        'insecure = ["*"]',
        'insecure = [""]',
        'insecure = ["registry.internal\\n"]',
        'insecure = ["registry.internal:99999"]',
    ],
)
@pytest.mark.parametrize("write", [own, local])
def test_invalid_value_is_an_error_with_the_file_and_the_key(write: Callable[[str], Path], line: str) -> None:
    path = write(line)
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: {line.partition(' ')[0]} should be"):
        config.load()


@pytest.mark.parametrize(
    "data", [b"jobs", b"jobs = ", b"jobs = 1\njobs = 2", b"\0", b"= 1", b"[", b"jobs = 1\x01", b"a" * 100]
)
@pytest.mark.parametrize("write", [own, local])
def test_broken_toml_is_an_error_that_names_the_file(write: Callable[[bytes], Path], data: bytes) -> None:
    path = write(data)
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))} is not valid TOML"):
        config.load()


@pytest.mark.parametrize(
    "text", ["[" * 1000 + "]" * 1000, "[" * 100_000 + "]" * 100_000, "{a=" * 1000 + "1" + "}" * 1000, "1" * 5000]
)
def test_deep_nesting_or_huge_number_is_a_config_error(text: str) -> None:
    """A file in the current directory may come from an attacker."""
    with pytest.raises(ConfigError):
        config.load(local(f"platform = {text}"))


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 50_000) + " = 1",
        "\n".join(f"k{number}." + ".".join("a" * 2000) + " = 1" for number in range(20)),
        "[" + ".".join("a" * 50_000) + "]",
        "platform = {" + ".".join("a" * 50_000) + " = 1}",
        'x = {y = """\n\'""", ' + ".".join("a" * 50_000) + " = '1'}",
    ],
    ids=["key", "keys", "table", "inline", "after a string of several lines"],
)
def test_long_dotted_keys_are_refused_before_they_are_parsed(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mirror\.toml has a line with more than 500 dots"):
        config.load(local(text))


def test_large_file_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(ConfigError, match=r"mirror\.toml has more than 256 KiB"):
        config.load(local("#" * 256 * 1024 + "\n"))


def test_unknown_long_key_is_shortened() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'a{80}'\.$"):
        config.load(local("a" * 100_000 + " = 1"))


@pytest.mark.parametrize("count", [1, 100])
def test_long_lists_of_hosts_are_read(count: int) -> None:
    hosts = ", ".join(f'"host-{number}.registry.internal:5000"' for number in range(count))
    assert len(config.load(own(f"insecure = [{hosts}]")).insecure) == count


def test_given_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "missing.toml")


def test_given_directory_is_an_error_and_a_local_one_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)
    Path("mirror.toml").mkdir()
    assert config.load().files == ()


# A missing or inaccessible home


def no_user(_: int) -> None:
    raise KeyError("no such user")


def test_local_file_is_read_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The uid of a container may have no entry in passwd."""
    local("jobs = 3")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", no_user)
    assert config.load().values == {"jobs": 3}


@pytest.mark.parametrize("home", ["x" * 300, "/dev/null"])
def test_inaccessible_home_is_ignored_or_a_clear_error(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    try:
        assert config.load().values == {}
    except (ConfigError, StorageError) as error:
        assert home in str(error)  # noqa: PT017 both are correct


# The documented file


def uncommented() -> str:
    lines = DOCUMENTED.read_text().splitlines()
    return "\n".join(line[2:] for line in lines if re.match(r"# (\w+ = |\[host\.)", line))


def test_documented_keys_are_exactly_the_known_keys(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(uncommented())
    found = config.read(tmp_path / "all.toml")
    assert set(found) == set(config._KEYS)
    assert set(tomllib.loads(uncommented())["host"]["docker.io"]) == set(config._HOST_KEYS)
    assert {field.name for field in fields(HostSettings)} == set(config._HOST_KEYS)


def test_documented_values_of_a_host_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(uncommented())
    host = config.read(tmp_path / "all.toml")["host"]["docker.io"]
    assert (host.plain_http, host.insecure, host.mirror_tags) == (False, False, True)


def test_the_documented_values_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(uncommented())
    values = config.read(tmp_path / "all.toml")
    assert {key: values[key] for key in DEFAULTS} == DEFAULTS


def test_documented_file_sets_nothing() -> None:
    assert config.read(DOCUMENTED) == {}


# The command


@pytest.fixture(scope="module")
def registry() -> Iterator[EmbeddedRegistry]:
    """Start a registry with one image of two platforms."""
    with serving(EmbeddedRegistry()) as running:
        IMAGE.publish(running, "a", "v1")
        yield running


def run(*args: object, code: int = 0, env: Mapping[str, str] | None = None) -> Result:
    result = CliRunner().invoke(mirror, list(map(str, args)), env=env)
    assert result.exit_code == code, (result.output, result.exception)
    return result


LEVELS: dict[str, Callable[[], object]] = {
    "own": lambda: own('output = "own"'),
    "local": lambda: local('output = "local"'),
    "variable": lambda: None,
    "flag": lambda: None,
}


@pytest.mark.slow
@pytest.mark.parametrize("levels", [list(some) for n in range(5) for some in itertools.combinations(LEVELS, n)])
def test_flag_overrides_variable_overrides_local_file_overrides_users_file(
    registry: EmbeddedRegistry, levels: list[str]
) -> None:
    for level in levels:
        LEVELS[level]()
    flag = ["-o", "flag"] if "flag" in levels else []
    env = {"MIRROR_OUTPUT": "variable"} if "variable" in levels else {}
    run("pull", f"{registry.host}/a:v1", "--all", "-q", *flag, env=env)
    there = [path.name for path in Path().iterdir() if path.is_dir()]
    assert there == [levels[-1] if levels else "layout"]


def platforms(layout: str = "layout") -> list[str]:
    """Return `["all"]`, or the digest of the only platform that was pulled."""
    digest = entries(Path(layout))[0]["digest"]
    return ["all"] if digest == IMAGE.root else [digest]


AMD64, ARM = ([child] for child in list(IMAGE.manifests)[:2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "variables", "flags", "pulled"),
    [
        ("all_platforms = true", {}, [], ["all"]),
        ('platform = ["linux/amd64"]', {}, [], AMD64),
        ('platform = ["linux/amd64", "linux/arm/v7"]', {}, [], ["all"]),
        ('platform = ["linux/amd64"]', {}, ["--platform", "linux/arm"], ARM),
        ('platform = ["linux/amd64"]', {}, ["--all"], ["all"]),
        ("all_platforms = true", {}, ["--platform", "linux/arm"], ARM),
        ("all_platforms = true", {"MIRROR_PLATFORM": "linux/arm"}, [], ARM),
        ('platform = ["linux/amd64"]', {"MIRROR_PLATFORM": "linux/arm"}, [], ARM),
        ('platform = ["linux/amd64"]', {"MIRROR_ALL_PLATFORMS": "1"}, [], ["all"]),
        ("", {"MIRROR_PLATFORM": "linux/arm"}, ["--platform", "linux/amd64"], AMD64),
        ("", {"MIRROR_PLATFORM": "linux/arm"}, ["--all"], ["all"]),
        ("", {"MIRROR_ALL_PLATFORMS": "1"}, ["--platform", "linux/arm"], ARM),
        ("", {"MIRROR_PLATFORM": "linux/arm,linux/amd64"}, [], ["all"]),
    ],
)
def test_platforms_with_the_highest_precedence_are_pulled(
    registry: EmbeddedRegistry, files: str, variables: dict[str, str], flags: list[str], pulled: list[str]
) -> None:
    local(files)
    run("pull", f"{registry.host}/a:v1", "-q", *flags, env=variables)
    assert platforms() == pulled


@pytest.mark.parametrize("line", ["", "all_platforms = true"])
def test_flags_all_and_platform_cannot_be_combined(registry: EmbeddedRegistry, line: str) -> None:
    local(line)
    result = run("pull", f"{registry.host}/a:v1", "--all", "--platform", "linux/amd64", code=2)
    assert "cannot be combined" in result.stderr


@pytest.mark.slow
def test_sparse_may_be_a_setting(registry: EmbeddedRegistry) -> None:
    local('sparse = true\nplatform = ["linux/arm/v7"]')
    run("pull", f"{registry.host}/a:v1", "-q")
    assert entries(Path("layout"))[0]["digest"] == IMAGE.root
    assert entries(Path("layout"))[0]["annotations"]["dev.oci-mirror.sparse"] == ARM[0]


@pytest.mark.slow
def test_keep_going_may_be_a_setting(registry: EmbeddedRegistry) -> None:
    local("keep_going = true\nall_platforms = true")
    result = run("pull", f"{registry.host}/a:v2", f"{registry.host}/a:v1", "-q", code=1)
    assert isinstance(result.exception, PartialFailure)
    assert platforms() == ["all"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "variables", "flags", "tries"),
    [
        ("retries = 0", {}, [], 1),
        ("retries = 1", {}, [], 2),
        ("retries = 5", {"MIRROR_RETRIES": "0"}, [], 1),
        ("retries = 5", {"MIRROR_RETRIES": "5"}, ["--retries", "0"], 1),
    ],
)
def test_number_of_retries_can_be_set(files: str, variables: dict[str, str], flags: list[str], tries: int) -> None:
    local(files)
    with serving(EmbeddedRegistry()) as busy:
        busy.fault(Fault(path="/manifests/", times=None, action=Status(503)))
        result = run("pull", f"{busy.host}/a:v1", *flags, code=1, env=variables)
        assert isinstance(result.exception, TransferError)
        assert busy.count("GET", "/manifests/") == tries


@pytest.mark.parametrize(
    ("files", "variables", "flags", "word"),
    [
        ("jobs = 0", {}, [], "jobs"),
        ("jobs = 65", {}, [], "jobs"),
        ("retries = 101", {}, [], "retries"),
        ("", {"MIRROR_JOBS": "0"}, [], "jobs"),
        ("", {"MIRROR_JOBS": "many"}, [], "jobs"),
        ("", {}, ["-j", "0"], "jobs"),
        ("", {"MIRROR_ALL_PLATFORMS": "perhaps"}, [], "all"),
    ],
)
def test_value_out_of_range_is_refused_in_file_variable_and_flag(
    registry: EmbeddedRegistry, files: str, variables: dict[str, str], flags: list[str], word: str
) -> None:
    local(files)
    result = run("pull", f"{registry.host}/a:v1", *flags, code=2, env=variables)
    assert word in result.stderr
    assert not Path("layout").exists()


def test_used_files_and_ignored_keys_are_printed(registry: EmbeddedRegistry) -> None:
    path = own("jobs = 2")
    local('retries = 1\ninsecure = ["evil.example"]')
    result = run("pull", f"{registry.host}/a:v1", "--all", "--dry-run")
    assert f"settings from {path}, mirror.toml" in result.stderr
    assert "insecure is ignored" in result.stderr


@pytest.mark.slow
def test_file_in_mirror_config_replaces_the_other_files(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    local("jobs = 0")
    (tmp_path / "other.toml").write_text('output = "other"')
    run("pull", f"{registry.host}/a:v1", "--all", "-q", env={"MIRROR_CONFIG": str(tmp_path / "other.toml")})
    assert Path("other").is_dir()


def test_a_broken_file_stops_the_command(registry: EmbeddedRegistry) -> None:
    local("jobz = 2")
    result = run("pull", f"{registry.host}/a:v1", code=1)
    assert isinstance(result.exception, ConfigError)
    assert not Path("layout").exists()


def test_every_setting_is_a_flag_and_a_variable() -> None:
    commands = [mirror.get_command(click.Context(mirror), name) for name in ("push", "pull")]
    params = [param for command in commands if command for param in command.params]
    known = {option.name: option for option in params if isinstance(option, click.Option)}
    for key in set(config._KEYS) - {"host"}:
        assert known[key].envvar == f"MIRROR_{key.upper()}"
