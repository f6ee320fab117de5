"""The challenges in `WWW-Authenticate` headers (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEPARATORS = re.compile(r"[\s,]*")  # lists may have empty elements (RFC 9110, 5.6.1)
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_SCHEME = re.compile(
    r"([A-Za-z][A-Za-z0-9_-]*)(?=[\s,]|$)(?:\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?"
)  # with its token68


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a scheme and its parameters, both in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges in one header, up to its first malformed part."""
    challenges: list[Challenge] = []
    position = _skip_separators(header, 0)
    while position < len(header):
        if challenges and (parameter := _PARAMETER.match(header, position)):
            name, quoted, bare = parameter.groups()
            challenges[-1].parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = _skip_separators(header, parameter.end())
        elif scheme := _SCHEME.match(header, position):
            challenges.append(Challenge(scheme[1].lower(), {}))
            position = _skip_separators(header, scheme.end())
        else:
            break
    return challenges


def _skip_separators(header: str, position: int) -> int:
    separators = _SEPARATORS.match(header, position)
    return separators.end() if separators else position
