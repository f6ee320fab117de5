"""What a 401 asks for: the challenges of `WWW-Authenticate` (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEPARATORS = re.compile(r"[\s,]*")  # lists may have empty elements (RFC 9110, 5.6.1)
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_SCHEME = re.compile(
    r"([A-Za-z][A-Za-z0-9_-]*)(?=[\s,]|$)(?:\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?"
)  # and its token68


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a 401 offers."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges in one `WWW-Authenticate` header; what cannot be understood ends the list."""
    found: list[Challenge] = []
    position = _skip(header, 0)
    while position < len(header):
        if found and (parameter := _PARAMETER.match(header, position)):
            name, quoted, bare = parameter.groups()
            found[-1].parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = _skip(header, parameter.end())
        elif scheme := _SCHEME.match(header, position):
            found.append(Challenge(scheme[1].lower(), {}))
            position = _skip(header, scheme.end())
        else:
            break
    return found


def _skip(header: str, position: int) -> int:
    separators = _SEPARATORS.match(header, position)
    return separators.end() if separators else position
