"""The results of `login` and `logout` as text; apart from the others, since importing them loads the HTTP client."""

from __future__ import annotations

from mirror.registry.login import LoginResult, LogoutResult, StoredLogin
from mirror.report.text import ResultText
from mirror.text import count


def login(result: LoginResult) -> ResultText:
    """Return a login: where the credentials are stored, and whether they could be checked."""
    unencrypted = "" if result.helper else ", readable only by you (mode 0600), but not encrypted"
    unchecked = f"{result.registry} does not require a login; the credentials were saved but could not be checked."
    return ResultText(
        [f"{result.registry}: logged in as {result.user}"],
        f"the credentials are in {_place(result)}{unencrypted}.",
        [] if result.checked else [unchecked],
    )


def logout(result: LogoutResult) -> ResultText:
    """Return the logins that were removed, and where from."""
    lines = [f"{stored.registry}: removed from {_place(stored)}" for stored in result.removed]
    return ResultText(lines, f"{count(len(lines), 'login')} removed.")


def _place(stored: StoredLogin) -> str:
    return f"docker-credential-{stored.helper} (set in {stored.file})" if stored.helper else stored.file
