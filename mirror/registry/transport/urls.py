"""URLs that somebody else wrote: in headers, in manifests, in settings."""

from __future__ import annotations

from yarl import URL

_NOWHERE = URL()
NO_URL = (ValueError, IndexError)  # what yarl raises; the latter for `//[]::@`


def web_address(text: str, *, base: URL = _NOWHERE, encoded: bool = True) -> URL | None:
    """The http or https URL that `text` is, seen from `base`; None where it is none.

    Who is named in it does not count: which credentials to use is ours to choose.

    Args:
        text: what was said.
        base: where it was said (RFC 3986, 5).
        encoded: leave it as it is, to the last byte, as a signed URL must be.
    """
    try:
        url = base.join(URL(text, encoded=encoded)).with_user(None)
        usable = bool(url.scheme in ("http", "https") and url.host and url.port)
    except NO_URL:
        return None
    return url if usable else None
