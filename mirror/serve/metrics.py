"""Counters of the server in Prometheus' text format (prometheus.io, "Exposition formats", 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mirror.serve.api import METHODS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REFUSALS = {401: "unauthorized", 404: "unknown", 405: "read_only", 416: "range", 500: "bad_content"}


class Metrics:
    """Counters since the start of the server. `hashed` counts blobs by the result: `ok`, or a fault."""

    def __init__(self, hashed: Mapping[str, int]) -> None:
        self._hashed = hashed
        self._requests: Counter[tuple[str, int]] = Counter()
        self._refusals: Counter[str] = Counter()
        self._sent = 0

    def count(self, method: str, status: int, sent: int, *, aborted: bool) -> None:
        """Count one request. Labels have few values, whatever clients send."""
        self._requests[method if method in METHODS else "other", status] += 1
        self._sent += sent
        if aborted:
            self._refusals["aborted"] += 1
        elif status >= 400:
            self._refusals[_REFUSALS.get(status, "other")] += 1

    def text(self) -> str:
        requests = {f'{{method="{method}",status="{status}"}}': n for (method, status), n in self._requests.items()}
        refusals = {f'{{reason="{reason}"}}': n for reason, n in self._refusals.items()}
        hashed = {f'{{result="{result}"}}': n for result, n in self._hashed.items()}
        return "".join(
            (
                _family("requests_total", "Requests, by method and status.", requests),
                _family("sent_bytes_total", "Bytes of content that were sent.", {"": self._sent}),
                _family("blobs_hashed_total", "Blobs that were hashed as a whole, by result.", hashed),
                _family("refusals_total", "Requests that were refused or not served to their end.", refusals),
            )
        )


def _family(name: str, description: str, samples: Mapping[str, int]) -> str:
    full = f"mirror_serve_{name}"
    lines = [f"# HELP {full} {description}", f"# TYPE {full} counter"]
    lines += [f"{full}{labels} {number}" for labels, number in sorted(samples.items())]
    return "\n".join(lines) + "\n"
