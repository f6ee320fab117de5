"""Attacks by registries, token servers and proxies that repeat the secrets that they received."""

import base64
import json
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from mirror.cli import console
from mirror.text import redaction
from tests.support import images, inprocess
from tests.support.command import Mirror, Result
from tests.support.registry import Action, Basic, Bearer, EmbeddedRegistry, serving
from tests.support.registry.faults import Fault
from tests.support.registry.messages import Answer, Call, answer, answer_json

IMAGE = images.image("linux/amd64")
USER, PASSWORD = "robot$ci", "Tr0ub4dor/&3 +stäple"
TOKEN = "identity-0123456789/abcdefghij+klmnopqr=="
PIECE = 8  # characters that an attacker may learn from a log at most

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of the header": lambda text: base64.b64encode(f"Basic {USER}:{text}".encode()).decode(),
    "base64 of JSON": lambda text: base64.urlsafe_b64encode(json.dumps({"password": text}).encode()).decode(),
    "URL-encoded": lambda text: quote(text, safe=""),
    "URL-encoded base64": lambda text: quote_plus(base64.b64encode(f"x{text}".encode()).decode()),
    "JSON": json.dumps,
    "HTML": escape,
    "hexadecimal": lambda text: text.encode().hex(),
    "latin-1": lambda text: text.encode().decode("latin-1"),
}


def said(text: str) -> Answer:
    return answer_json(400, {"errors": [{"code": "DENIED", "message": f"got {text}"}]})


def header(name: str, before: str = "", status: int = 307) -> Callable[[str], Answer]:
    def respond(text: str) -> Answer:
        return answer(status, b"{}", **{name: before + text.encode().decode("latin-1")})

    return respond


PLACES: dict[str, Callable[[str], Answer]] = {
    "message": said,
    "end of a long message": lambda text: said("x" * (500 - len("DENIED got ") - len(text) + 3) + text),
    "plain text": lambda text: answer(503, text.encode()),
    "code": lambda text: answer_json(403, {"errors": [{"code": text}]}),
    "details": lambda text: answer_json(429, {"details": text, "message": text}),
    "redirect to a path": header("Location", "http://127.0.0.1:1/"),
    "redirect to a host": header("Location", "http://"),
    "redirect to another scheme": header("Location", "ftp://files.example/"),
    "redirect with a long path": header("Location", "ftp://files.example/" + "x" * 150 + "/"),
    "media type": header("Content-Type", "application/", 200),
    "digest": header("Docker-Content-Digest", "sha256:", 200),
    "realm": header("WWW-Authenticate", 'Bearer realm="', 401),
    "server": header("Server", "nginx ", 502),
}


@dataclass(frozen=True)
class Echo(Action):
    """Answers an authenticated request by what `respond` makes of the received secret."""

    respond: Callable[[str], Answer]

    def on_call(self, call: Call) -> Call | Answer:
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            return self.respond(base64.b64decode(value).decode().partition(":")[2])
        return self.respond(value) if scheme == "Bearer" else call


def pieces(secret: str) -> set[str]:
    """Return all pieces of a secret that an attacker could use, in the forms of the test, in lower case."""
    forms = [form(secret) for form in FORMS.values()]
    forms += [base64.b64encode(f"{before}{secret}".encode()).decode() for before in (f"{USER}:", "x", "xy")]
    return {form[at : at + PIECE].lower() for form in forms for at in range(len(form) - PIECE + 1)}


SHELL_WORDS = {piece for text in ('{"password": "', f"Basic {USER}:") for piece in pieces(text)}


def gained(result: Result, secret: str) -> set[str]:
    """Return the pieces of a secret in the output of a command."""
    shown = (result.err + result.out).lower()
    return {piece for piece in pieces(secret) - SHELL_WORDS if piece in shown}


def log_in(mirror: Mirror, host: str, **entry: str) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))


def run(mirror: Mirror, *args: str) -> Result:
    """Run a command, whatever its exit code."""
    code, out, err = inprocess.run(args, cwd=mirror.folder, env=mirror.env, stdin=b"")
    return Result(code, out, err.decode())


def attack(mirror: Mirror, respond: Callable[[str], Answer], *flags: str) -> Result:
    with serving(EmbeddedRegistry(auth=Basic({USER: PASSWORD}))) as registry:
        IMAGE.publish(registry, "a", "v1")
        log_in(mirror, registry.host, username=USER, password=PASSWORD)
        registry.fault(Fault(path="/v2/a", times=None, action=Echo(respond)))
        result = run(mirror, "pull", f"{registry.host}/a:v1", "--all", "--retries", "0", "--keep-going", *flags)
    assert result.code not in (0, 130)
    assert "Traceback" not in result.err
    return result


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_reflected_password_does_not_reach_the_output(mirror: Mirror, place: str, form: str) -> None:
    result = attack(mirror, lambda secret: PLACES[place](FORMS[form](secret)), "--json", "-v")
    assert gained(result, PASSWORD) == set()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_reflected_password_is_not_a_tag(mirror: Mirror, form: str) -> None:
    with serving(EmbeddedRegistry(auth=Basic({USER: PASSWORD}))) as registry:
        IMAGE.publish(registry, "a", "v1")
        log_in(mirror, registry.host, username=USER, password=PASSWORD)
        action = Echo(lambda secret: answer_json(200, {"name": "a", "tags": ["v1", FORMS[form](secret)]}))
        registry.fault(Fault(path="/v2/a/tags", times=None, action=action))
        result = run(mirror, "tags", f"{registry.host}/a")
    assert gained(result, PASSWORD) == set()


@dataclass(frozen=True)
class EchoForm(Action):
    """Refuses a request for a token, and repeats the secret."""

    secret: str

    def on_call(self, call: Call) -> Answer:
        return said(f"refresh_token={quote_plus(self.secret)}&client_id=mirror")


@pytest.mark.slow
def test_reflected_refresh_token_does_not_reach_the_output(mirror: Mirror) -> None:
    auth = Bearer(identity_tokens={TOKEN: USER})
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "a", "v1")
        log_in(mirror, registry.host, auth=base64.b64encode(b"<token>:").decode(), identitytoken=TOKEN)
        registry.fault(Fault(path="/token", times=None, action=EchoForm(TOKEN)))
        result = mirror("pull", f"{registry.host}/a:v1", "--all", "-v", "--retries", "0", code=1)
    assert gained(result, TOKEN) == set()
    assert "refresh_token=[redacted]" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_reflected_bearer_token_does_not_reach_the_output(mirror: Mirror, form: str) -> None:
    auth = Bearer(users={USER: PASSWORD})
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "a", "v1")
        log_in(mirror, registry.host, username=USER, password=PASSWORD)
        received: list[str] = []

        def respond(secret: str) -> Answer:
            received.append(secret)
            return said(FORMS[form](secret))

        registry.fault(Fault(path="/v2/a", times=None, action=Echo(respond)))
        result = mirror("pull", f"{registry.host}/a:v1", "--all", "-v", "--retries", "0", code=1)
    assert gained(result, received[0]) == set()


@pytest.mark.slow
def test_reflected_password_of_a_proxy_does_not_reach_the_output(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry()) as proxy:
        proxy.fault(Fault(times=None, action=EchoForm("pr0xy-s3cret/word")))
        env = {"HTTP_PROXY": f"http://ann:{quote('pr0xy-s3cret/word', safe='')}@{proxy.host}"}
        result = mirror("pull", "registry.example/a:v1", "--plain-http", "--retries", "0", "-v", code=1, env=env)
    assert gained(result, "pr0xy-s3cret/word") == set()
    assert "refresh_token=[redacted]" in result.err


def test_password_with_quotes_leaves_json_valid(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Basic({USER: 'long-name:v1"'}))) as registry:
        IMAGE.publish(registry, "long-name", "v1")
        log_in(mirror, registry.host, username=USER, password='long-name:v1"')
        result = mirror("pull", f"{registry.host}/long-name:v1", "--all", "--json")
        assert f"{registry.host}/long-name:v1" in result.json["images"][0].values()


def test_only_texts_of_json_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    redaction.hide("12345678")
    copy_context().run(console.result_json, {"size": 12345678, "text": "12345678", "12345678": [None, 12345678.5]})
    redaction.forget()
    assert json.loads(capsys.readouterr().out) == {
        "size": 12345678,
        "text": "[redacted]",
        "[redacted]": [None, 12345678.5],
    }


def test_password_typed_in_a_name_is_not_printed(mirror: Mirror) -> None:
    result = mirror("pull", "https://ann:s3cret-word@registry.example/a:v1", code=2)
    assert gained(result, "s3cret-word") == set()
