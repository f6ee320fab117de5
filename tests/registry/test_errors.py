"""Tests of error messages and hints for errors of aiohttp and error responses of registries."""

import asyncio
import errno
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_exceptions import UnixClientConnectorError
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from mirror.errors import DigestMismatch, MirrorError, StorageError, TransferError, Unauthorized
from mirror.registry.transport.addresses import ForbiddenAddress
from mirror.registry.transport.errors import Endpoint, translate_errors
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.responses import is_html, response_error
from mirror.registry.transport.urls import redact
from tests.support.strategies import THOROUGH, json_values, nasty_text

KEY: Any = SimpleNamespace(host="registry.example", port=5000, is_ssl=True, ssl=True)
SECURE: Any = SimpleNamespace(host="registry.example", port=443, is_ssl=True, ssl=True)
INFO: Any = SimpleNamespace(real_url=URL("https://registry.example:5000/v2/"), method="GET", headers={})
KEY_POINT: Endpoint = ("registry.example", 5000)
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
TLS = ssl.SSLError(1, "wrong version number")

IT = Request.to("GET", URL("https://registry.example:5000/v2/"))

Case = tuple[Exception, bool, str]  # the error, whether it is transient, a part of its message


def cases() -> Iterator[Case]:
    """Yield an error of every class of aiohttp, and errors that aiohttp passes on."""
    yield aiohttp.ClientError("odd"), False, "ClientError"
    yield aiohttp.ClientResponseError(INFO, (), status=400, message="bad"), True, "not valid HTTP"
    yield aiohttp.ContentTypeError(INFO, ()), True, "not valid HTTP"
    yield aiohttp.WSServerHandshakeError(INFO, ()), True, "not valid HTTP"
    yield aiohttp.TooManyRedirects(INFO, ()), True, "not valid HTTP"
    yield aiohttp.ClientHttpProxyError(INFO, (), status=407, message="Auth"), False, "the proxy answered 407"
    yield aiohttp.ClientConnectionError("closed"), False, "ClientConnectionError"
    yield aiohttp.ClientConnectionResetError("Cannot write"), True, "the connection was cut"
    yield aiohttp.ClientOSError(errno.ECONNRESET, "reset"), True, "the connection was cut"
    yield aiohttp.ClientConnectorError(KEY, REFUSED), False, "registry.example:5000: connection refused"
    yield aiohttp.ClientConnectorDNSError(KEY, UNKNOWN), False, "registry.example:5000: name not known"
    yield aiohttp.ClientProxyConnectionError(KEY, REFUSED), False, "Cannot connect"
    yield UnixClientConnectorError("/x", KEY, REFUSED), False, "Cannot connect"
    yield aiohttp.ClientSSLError(KEY, TLS), False, "the TLS handshake failed"
    yield aiohttp.ClientConnectorSSLError(KEY, TLS), False, "the TLS handshake failed"
    yield aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE), False, "certificate of registry.example"
    yield aiohttp.ServerConnectionError("odd"), False, "ServerConnectionError"
    yield aiohttp.ServerDisconnectedError(), True, "the connection was cut"
    yield aiohttp.ServerTimeoutError(), True, "stopped answering"
    yield aiohttp.ConnectionTimeoutError("slow"), True, "stopped answering"
    yield aiohttp.SocketTimeoutError("slow"), True, "stopped answering"
    yield aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 1), False, "ServerFingerprintMismatch"
    yield aiohttp.ClientPayloadError("cut"), True, "the connection was cut"
    yield aiohttp.InvalidURL("x"), False, "not a valid URL"
    yield aiohttp.InvalidUrlClientError("x"), False, "not a valid URL"
    yield aiohttp.InvalidUrlRedirectClientError("x"), False, "not a valid URL"
    yield aiohttp.RedirectClientError("x"), False, "RedirectClientError"
    yield aiohttp.NonHttpUrlClientError("x"), False, "NonHttpUrlClientError"
    yield aiohttp.NonHttpUrlRedirectClientError("x"), False, "NonHttpUrlRedirectClientError"
    yield (
        aiohttp.ClientConnectorError(KEY, ForbiddenAddress("it is private")),
        False,
        "Not connecting to registry.example:5000: it is private",
    )
    yield aiohttp.ClientHttpProxyError(INFO, (), status=503, message="Busy"), True, "the proxy answered 503"
    yield ForbiddenAddress("it is private"), False, "Not connecting: it is private"
    # errors of lower layers
    yield TimeoutError(), True, "stopped answering"
    yield ConnectionResetError(errno.ECONNRESET, "reset"), True, "the connection was cut"
    yield BrokenPipeError(errno.EPIPE, "pipe"), True, "the connection was cut"
    yield OSError(errno.ENETUNREACH, "unreachable"), True, "the connection was cut"
    yield ssl.SSLError(1, "bad record"), True, "the connection was cut"
    yield asyncio.IncompleteReadError(b"a", 2), True, "the connection was cut"
    yield ValueError("Port out of range 0-65535"), False, "out of range"
    yield UnicodeEncodeError("latin-1", "a€", 1, 2, "out of range"), False, "not a valid URL: out of range"
    yield UnicodeError("label empty or too long"), False, "label"


NEWER = {"UploadAbortedError"}  # not in every supported version of aiohttp


@pytest.mark.parametrize(("error", "transient", "says"), list(cases()), ids=lambda value: type(value).__name__)
def test_every_network_error_has_a_message(error: Exception, transient: bool, says: str) -> None:
    with pytest.raises(TransferError, match=r"\.$") as caught, translate_errors(IT):
        raise error
    assert says in str(caught.value)
    assert caught.value.transient is transient
    assert (caught.value.exit_code, caught.value.__cause__) == (1, error)


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (aiohttp.ClientConnectorError(KEY, REFUSED), False, True),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, "no route")), False, True),
        (aiohttp.ClientConnectorDNSError(KEY, UNKNOWN), False, True),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_FAIL, "failure")), False, True),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "busy")), True, True),
        (aiohttp.ClientConnectorSSLError(KEY, TLS), False, True),
        (aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE), False, False),
        (aiohttp.ClientConnectorError(KEY, ForbiddenAddress("it is private")), False, False),
    ],
)
def test_failure_to_connect_is_transient_once_the_host_has_answered(
    error: Exception, before: bool, after: bool
) -> None:
    for answered, transient in (set[Endpoint](), before), ({("registry.example", 443)}, before), ({KEY_POINT}, after):
        with pytest.raises(TransferError) as caught, translate_errors(IT, answered):
            raise error
        assert caught.value.transient is transient


def descendants(of: type[Exception]) -> Iterator[type[Exception]]:
    for child in of.__subclasses__():
        if child.__module__.startswith("aiohttp"):
            yield child
            yield from descendants(child)


def test_cases_cover_every_error_class_of_aiohttp() -> None:
    known = {type(error).__name__ for error, _, _ in cases()} | NEWER
    assert {error.__name__ for error in descendants(aiohttp.ClientError)} <= known


@pytest.mark.parametrize("name", sorted(NEWER))
def test_newer_network_errors_have_a_message(name: str) -> None:
    error = getattr(aiohttp.client_exceptions, name, None)
    if error is None:
        pytest.skip(f"this aiohttp has no {name}")
    with pytest.raises(TransferError, match=r"^registry\.example:5000: "), translate_errors(IT):
        raise error("x")


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE), "--insecure"),
        (aiohttp.ClientConnectorSSLError(KEY, TLS), "--plain-http"),
        (aiohttp.ClientConnectorError(KEY, ForbiddenAddress("no", hint="trusted_networks")), "trusted_networks"),
        (aiohttp.ClientHttpProxyError(INFO, (), status=407, message="Auth"), "HTTPS_PROXY=http://user:password@"),
        (aiohttp.ClientConnectorError(KEY, REFUSED), "Is it running, and is the address right?"),
        (aiohttp.ClientConnectorError(SECURE, REFUSED), "--plain-http"),
    ],
)
def test_network_errors_have_a_hint(error: Exception, hint: str) -> None:
    with pytest.raises(TransferError) as caught, translate_errors(IT):
        raise error
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("WRONG_VERSION_NUMBER", "it does not use TLS."),
        ("RECORD_LAYER_FAILURE", "it does not use TLS."),
        ("UNSUPPORTED_PROTOCOL", "it uses a version of TLS that is too old."),
        ("UNEXPECTED_EOF_WHILE_READING", "it closed the connection."),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "it requires a client certificate."),
        ("TLSV1_ALERT_UNKNOWN_CA", "it rejected the client certificate."),
        ("NO_SHARED_CIPHER", "no shared cipher."),
    ],
)
def test_reason_of_a_failed_handshake_is_in_words(reason: str, says: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}] something (_ssl.c:1006)")
    error.reason = reason
    with pytest.raises(TransferError) as caught, translate_errors(IT):
        raise aiohttp.ClientConnectorSSLError(KEY, error)
    assert str(caught.value) == f"registry.example:5000: the TLS handshake failed: {says}"
    assert ("If registry.example:5000 does not use TLS, add --plain-http" in (caught.value.hint or "")) is (
        "TLS." in says or "closed" in says or "cipher" in says
    )


@pytest.mark.parametrize("wrapper", [aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionResetError])
def test_own_error_in_a_request_body_is_unwrapped(wrapper: type[Exception]) -> None:
    own = DigestMismatch("It", want="a", got="b")

    def send() -> None:
        try:
            raise own
        except MirrorError as error:
            middle = OSError("wrapped")
            middle.__cause__ = error
            raise wrapper("wrapped") from middle

    with pytest.raises(DigestMismatch) as caught, translate_errors(IT):
        send()
    assert caught.value is own


def test_own_errors_and_bugs_are_not_translated() -> None:
    for error in (StorageError("full"), ZeroDivisionError("a bug")):
        with pytest.raises(type(error)) as caught, translate_errors(IT):
            raise error
        assert caught.value is error


# Error responses


def answer(status: int, body: bytes = b"", reason: str = "Reason", **headers: str) -> Response:

    async def chunks() -> AsyncIterator[bytes]:
        """Yield a part at a time, as a connection does."""
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    fields = CIMultiDict({name.replace("_", "-"): text for name, text in headers.items()})
    url = URL("https://registry.example:5000/v2/a?token=secret")  # aiohttp strips users and passwords
    given = SimpleNamespace(
        method="GET", status=status, reason=reason, headers=fields, url=url, chunks=chunks, content_length=None
    )
    given.sent = {"Authorization": "Bearer abc.def"}
    return cast(Response, given)


def refused(status: int, body: bytes = b"", **headers: str) -> TransferError:
    return asyncio.run(response_error(IT, answer(status, body, **headers), "r.example"))


def test_default_port_is_not_shown() -> None:
    response = answer(500)
    vars(response)["url"] = URL("https://registry.example:443/v2/a", encoded=True)
    error = asyncio.run(response_error(IT, response, "r.example"))
    assert str(error).startswith("registry.example answered 500 ")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_statuses_are_transient(status: int) -> None:
    assert refused(status).transient


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 405, 409, 410, 413, 416, 418, 501, 505, 999])
def test_other_statuses_are_not_transient(status: int) -> None:
    assert not refused(status).transient
    assert refused(status).status == status


@pytest.mark.parametrize("status", [401, 403])
def test_hint_of_401_and_403_is_to_log_in(status: int) -> None:
    error = refused(status)
    assert isinstance(error, Unauthorized)
    assert "mirror login" in (error.hint or "")


def errors_of(*some: object) -> bytes:
    return json.dumps({"errors": some}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (errors_of({"code": "DENIED", "message": "not yours"}), ": DENIED not yours."),
        (errors_of({"code": "DENIED"}), ": DENIED."),
        (errors_of({"code": "A", "message": "No."}, {"code": "B", "message": "GET. "}), ": A No; B GET."),
        (errors_of({"code": "DENIED", "message": None}), ": DENIED."),
        (errors_of({"code": "A"}, {"code": "B", "message": "b"}), ": A; B b."),
        (errors_of({"code": "DENIED", "detail": "no more than 5 tags"}), ": DENIED (no more than 5 tags)."),
        (errors_of({"code": "UNKNOWN", "detail": {"Err": 28}}), ': UNKNOWN ({"Err": 28}).'),
        (errors_of({"code": "UNKNOWN", "detail": {}}), ": UNKNOWN."),
        (errors_of({"code": "A", "message": "b c", "detail": "b"}), ": A b c."),
        (errors_of({"status": 403, "message": "blocked by Xray"}), ": blocked by Xray."),  # Artifactory
        (errors_of("A", "A", "B"), ": A; B."),
        (b'{"errors":{"code":"A"}}', ": A."),
        (b'{"errors":"A"}', ": A."),
        (b'{"message": "The quota is used up.\\n"}', ": The quota is used up."),
        (b'{"details": "incorrect username or password"}', ": incorrect username or password."),
        (b'{"error": {"message": "no space"}}', ": no space."),
        (b'{"error": "invalid_scope", "error_description": "not yours"}', ": invalid_scope; not yours."),
        (b'{"title": "Forbidden", "detail": "not today"}', ": Forbidden (not today)."),  # RFC 9457
        (b'{"why": "not today"}', ': {"why": "not today"}.'),
        (b'"not today"', ": not today."),
        (b"404 page not found\n", ": 404 page not found."),
        (b"one\r\n\ttwo\x1b[2J", ": one two\\x1b[2J."),
        (b"<?xml?><Error><Code>AccessDenied</Code>\n<Message>Expired</Message></Error>", ": AccessDenied: Expired."),
        (b"<Error><Code>AccessDenied</Code></Error>", ": AccessDenied."),
        (errors_of(), "Reason."),
        (b"", "Reason."),
        (b"<html><h1>413</h1></html>", "Reason."),
        (b"{}", "Reason."),
        (b"[]", "Reason."),
        (b"null", "Reason."),
        (b'{"errors":null}', "Reason."),
        (b'{"errors":[null]}', "Reason."),
        (b'{"errors":[{"code":', "Reason."),
        (b"[" * 60_000, "Reason."),
        (b"\xff\xfe", "Reason."),
    ],
)
def test_text_of_an_error_response_is_quoted(body: bytes, said: str) -> None:
    assert str(refused(400, body)).endswith(said)


@pytest.mark.parametrize("start", [b"<Error>", b"<Error><Code>", b"<Error><Code>A</Code><Message>"])
def test_repeated_elements_of_a_body_are_searched_once(start: bytes) -> None:
    assert is_html(start * (4 * 1024 * 1024 // len(start))) == (b"</Code>" not in start)  # else it takes hours


@pytest.mark.parametrize("status", [401, 404])
def test_detail_that_repeats_the_request_is_not_quoted(status: int) -> None:
    body = errors_of({"code": "A", "message": "b", "detail": [{"Type": "repository", "Name": "a"}]})
    assert str(refused(status, body)).endswith(": A b.")


def test_secret_is_redacted_before_the_text_is_shortened() -> None:
    text = "x" * 495 + " abc.def"
    assert "abc" not in str(refused(400, text.encode()))


def test_error_whose_body_is_cut_keeps_its_status() -> None:
    given = answer(403)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"<html>"
        raise aiohttp.ClientPayloadError("cut")

    given.chunks = chunks  # type: ignore[method-assign]
    assert asyncio.run(response_error(IT, given, "r.example")).status == 403


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [
        (403, "adding 3 MiB will exceed the quota", "storage quota is used up"),
        (412, "quota exceeded", "storage quota is used up"),
        (413, "the project has no quota left", "storage quota is used up"),
        (403, "blocked by policy", "policy of the registry"),
        (409, "the tag is immutable", "policy of the registry"),
        (413, "too large", "client_max_body_size"),
        (403, "no", "mirror login"),
    ],
)
def test_hint_fits_the_text(status: int, text: str, hint: str) -> None:
    assert hint in (refused(status, errors_of({"code": "DENIED", "message": text})).hint or "")


@pytest.mark.parametrize("body", [b"", b"Bad Request", b"<html>Bad Request</html>"])
def test_hint_of_400_without_a_document_for_plain_http_mentions_tls(body: bytes) -> None:
    plain = answer(400, body)
    plain.url = URL("http://registry.example:5000/v2/")  # type: ignore[misc]
    error = asyncio.run(response_error(Request.of(plain), plain, "registry.example:5000"))
    assert error.hint == "registry.example:5000 may use TLS: try without --plain-http."
    assert refused(400, body).hint != error.hint


def test_long_message_is_truncated() -> None:
    assert len(str(refused(400, errors_of({"code": "A", "message": "x" * 50_000})))) < 700


def test_query_of_the_url_is_not_shown() -> None:
    assert "secret" not in str(refused(500))
    assert "registry.example:5000 answered 500 Reason" in str(refused(500))


@pytest.mark.slow
@given(json_values.map(lambda value: json.dumps({"errors": value}).encode()) | st.binary())
@THOROUGH
def test_any_error_body_can_be_read(body: bytes) -> None:
    assert refused(400, body).status == 400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("5", 5.0), ("120", 120.0), ("0005", 5.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert refused(429, Retry_After=text).retry_after == seconds


def test_future_retry_after_date_is_converted_to_seconds() -> None:
    found = refused(503, Retry_After="Wed, 21 Oct 2099 07:28:00 GMT").retry_after
    assert found
    assert found > 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5",
        "+5",
        " 5 x",
        "5.5",
        "1_000",
        "٣",
        "²",
        "soon",
        "Wed, 99 Oct 2015 07:28:00 GMT",
        "Mon, 01 Jan 2020 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Mon, 01 Jan 2020 00:00:00 +9999",
        "Wed, 21 Oct 2015 07:28:00 -0000",
    ],
)
def test_invalid_retry_after_is_ignored(text: str) -> None:
    assert refused(429, Retry_After=text).retry_after is None


@pytest.mark.slow
@given(nasty_text | st.text("0123456789 :,+-GMTWedOct", max_size=40))
@THOROUGH
def test_any_retry_after_can_be_parsed(text: str) -> None:
    found = refused(429, Retry_After=text).retry_after
    assert found is None or found >= 0


def test_huge_retry_after_is_capped() -> None:
    assert refused(429, Retry_After="9" * 5000).retry_after == 999_999_999.0


def test_redact_removes_credentials_and_query() -> None:
    assert redact(URL("https://u:p@host:1/a%2Fb?X-Signature=s", encoded=True)) == "https://host:1/a%2Fb"


def test_token_in_an_error_response_is_redacted() -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "abc.def is invalid"}]}'
    assert ": DENIED [redacted] is invalid." in str(refused(403, body))


def test_query_of_a_url_in_an_error_response_is_redacted() -> None:
    body = b'{"errors": [{"code": "GONE", "message": "see https://cdn.example/x?sig=abc&y=z, now"}]}'
    assert "see https://cdn.example/x?[redacted] now." in str(refused(410, body))


def test_407_is_reported_as_a_response_of_the_proxy() -> None:
    error = refused(407)
    assert "the proxy answered 407" in str(error)
    assert "HTTPS_PROXY" in (error.hint or "")


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer"),
        aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hint_of_a_closed_tls_connection_mentions_client_certificates(error: Exception) -> None:
    """The error depends on whether the client or the server is faster."""
    for scheme, hinted in (("https", True), ("http", False)):
        request = Request.to("GET", URL(f"{scheme}://registry.internal/v2/"))
        with pytest.raises(TransferError) as caught, translate_errors(request):
            raise error
        assert ("client certificate" in (caught.value.hint or "")) is hinted


@pytest.mark.parametrize("answered", [False, True])
def test_hint_of_a_plain_connection_that_is_closed_at_once_mentions_tls(answered: bool) -> None:
    """Some servers close a connection on which they expected TLS; one that has answered speaks plain HTTP."""
    points: set[Endpoint] = {("registry.example", 5000)} if answered else set()
    request = Request.to("GET", URL("http://registry.example:5000/v2/"))
    with pytest.raises(TransferError) as caught, translate_errors(request, points):
        raise aiohttp.ServerDisconnectedError
    assert caught.value.hint == (None if answered else "registry.example:5000 may use TLS: try without --plain-http.")


# Certificates, host names and subjects of requests


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (9, "is not valid yet"),
        (10, "has expired"),
        (18, "is self-signed"),
        (19, "is signed by a CA that is not trusted"),
        (20, "is signed by a CA that is not trusted"),
        (62, "is for another host name"),
        (64, "is for another IP address"),
        (79, "cannot be verified: invalid CA certificate"),
    ],
)
def test_message_explains_the_certificate_error(code: int, said: str) -> None:
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    cause.verify_code, cause.verify_message = code, "invalid CA certificate"
    with pytest.raises(TransferError) as caught, translate_errors(IT):
        raise aiohttp.ClientConnectorCertificateError(KEY, cause)
    assert str(caught.value) == f"The certificate of registry.example:5000 {said}."
    hint = caught.value.hint or ""
    assert ("--ca-file" in hint) is (code not in (9, 10, 62, 64))
    assert ("clock" in hint) is (code in (9, 10))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "temporary failure in name"),
    ],
)
def test_hint_of_an_unresolved_name_mentions_the_network(error: OSError, said: str) -> None:
    with pytest.raises(TransferError) as caught, translate_errors(IT):
        raise aiohttp.ClientConnectorDNSError(KEY, error)
    assert str(caught.value).startswith(f"Cannot connect to registry.example:5000: {said}")
    assert caught.value.hint == "There is no such host, or no network."


def test_method_and_url_are_logged_but_not_in_the_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mirror")
    with pytest.raises(TransferError) as caught, translate_errors(IT):
        raise aiohttp.ClientConnectorError(KEY, REFUSED)
    assert "https://" not in str(caught.value)
    assert caplog.messages == [f"GET https://registry.example:5000/v2/: {caught.value}"]


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("a/b/manifests/v1", "manifest a/b:v1"),
        ("a/b/manifests/sha256:12", "manifest a/b@sha256:12"),
        ("a/b/blobs/sha256:12", "blob sha256:12 in a/b"),
        ("a/b/blobs/uploads/", "upload to a/b"),
        ("a/b/blobs/uploads/1234?state=x", "upload to a/b"),
        ("a/b/referrers/sha256:12", "referrers of sha256:12 in a/b"),
        ("a/b/tags/list?n=1000", "tags of a/b"),
        ("", ""),
        ("_catalog", ""),
    ],
)
def test_subject_of_a_request_uses_terms_of_the_specification(path: str, subject: str) -> None:
    assert Request.to("GET", URL(f"https://registry.example/v2/{path}")).subject == subject


def test_subject_of_the_request_is_in_the_message() -> None:
    request = Request.to("GET", URL("https://registry.example:5000/v2/a/blobs/sha256:12"))
    body = errors_of({"code": "BLOB_UNKNOWN", "message": "blob unknown"})
    error = asyncio.run(response_error(request, answer(404, body), "registry.example:5000"))
    assert str(error) == ("registry.example:5000 answered 404 Reason (blob sha256:12 in a): BLOB_UNKNOWN blob unknown.")


def test_hint_of_429_is_to_wait_or_log_in() -> None:
    page = b"<html>slow down</html>"
    assert refused(429, page).hint == "Too many requests. Wait, or log in for a higher limit: mirror login r.example"


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        b"<html>Reason: You're speaking plain HTTP to an SSL-enabled server port.</html>",
    ],
)
def test_400_for_plain_http_at_a_tls_port_has_its_own_hint(body: bytes) -> None:
    plain = answer(400, body)
    plain.url = URL("http://registry.example:5000/v2/")  # type: ignore[misc]
    error = asyncio.run(response_error(Request.of(plain), plain, "registry.example:5000"))
    assert error.hint == "registry.example:5000 uses TLS: remove --plain-http, or plain_http from mirror.toml."
    assert "uses TLS" not in (refused(400, body).hint or "")


@pytest.mark.parametrize(("scheme", "said"), [("Basic", "Wrong user name or password"), ("Bearer", "not logged in")])
def test_hint_of_401_depends_on_the_authorization_that_was_sent(scheme: str, said: str) -> None:
    given = answer(401)
    given.sent["Authorization"] = f"{scheme} abc"  # type: ignore[index]
    error = asyncio.run(response_error(IT, given, "r.example"))
    assert said in (error.hint or "")
    assert (error.hint or "").endswith("mirror login r.example")
