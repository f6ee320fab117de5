"""The challenges in `WWW-Authenticate` headers (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# After separators: lists may have empty elements (RFC 9110, 5.6.1). A scheme is matched with its token68.
_PARAMETER = re.compile(r'[\s,]*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?=[\s,]|$)(?:\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a scheme and its parameters, both in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges in one header, up to its first malformed part."""
    challenges: list[Challenge] = []
    position = 0
    while position < len(header):
        if challenges and (found := _PARAMETER.match(header, position)):
            name, quoted, bare = found.groups()
            challenges[-1].parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        elif found := _SCHEME.match(header, position):
            challenges.append(Challenge(found[1].lower(), {}))
        else:
            break
        position = found.end()
    return challenges
