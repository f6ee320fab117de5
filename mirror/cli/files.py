"""Checks of files that options name, before anything is transferred."""

from __future__ import annotations

from pathlib import Path

from mirror.config.files import read_file
from mirror.errors import ConfigError, ContentError
from mirror.strictjson import load_object

_CAP = 16 * 1024 * 1024  # bytes; bundles of CA certificates have less than one million
_CA_HINT = "Check --ca-file, MIRROR_CA_FILE, or ca_file in mirror.toml."
_AUTHFILE_HINT = "Check --authfile, MIRROR_AUTHFILE, or authfile in mirror.toml; mirror login creates such a file."


def check_ca(file: str | None) -> None:
    """Check that a file of CA certificates can be read and has some; raise ConfigError if not."""
    if file is None:
        return
    import ssl  # slow to import, and rarely needed here

    path = Path(file).expanduser()
    text = read_file(path, _CAP, _CA_HINT, is_text=False).decode("ascii", "ignore")  # comments may be in any encoding
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):  # the latter if it is empty
        raise ConfigError(f"{path} does not contain a CA certificate in PEM form.", hint=_CA_HINT) from None


def check_credentials(path: Path | None) -> None:
    """Check that a credentials file (containers-auth.json(5)) is a JSON object; raise ConfigError if not."""
    if path is None:
        return
    data = read_file(path, _CAP, _AUTHFILE_HINT)
    try:
        document = load_object(data, str(path)) if data.strip() else {}
    except ContentError as error:
        raise ConfigError(str(error), hint=_AUTHFILE_HINT) from None
    for section in ("auths", "credHelpers"):
        if not isinstance(document.get(section, {}), dict):
            raise ConfigError(f"{path}: {section!r} is not a JSON object.", hint=_AUTHFILE_HINT)
