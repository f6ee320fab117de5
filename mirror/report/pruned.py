"""What `prune` has found, and perhaps deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.strictjson import JsonObject
from mirror.text import count, size


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a layout holds and nobody needs: blobs by digest, unfinished files by their path in it; sizes in bytes.

    `quarantined` has been set aside by a repair, and stays. `deleted` is whether the others are gone.
    """

    path: str
    orphans: Mapping[str, int]
    unfinished: Mapping[str, int]
    quarantined: Mapping[str, int]
    deleted: bool

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.prune/1",
            "path": self.path,
            "deleted": self.deleted,
            "orphans": [{"digest": digest, "size": bytes_} for digest, bytes_ in sorted(self.orphans.items())],
            "unfinished": _files(self.unfinished),
            "quarantined": _files(self.quarantined),
        }

    def lines(self) -> list[str]:
        """A line for each."""
        found = {**dict(sorted(self.orphans.items())), **dict(sorted(self.unfinished.items()))}
        return [f"{name}  {size(bytes_)}" for name, bytes_ in found.items()]

    def summary(self) -> str:
        aside = _amount(self.quarantined, "file")
        stays = f" {aside} in quarantine: look, and delete it yourself." if self.quarantined else ""
        if not self.orphans and not self.unfinished:
            return f"{self.path}: nothing to prune.{stays}"
        some = ((self.orphans, "blob"), (self.unfinished, "unfinished file"))
        what = [_amount(found, noun) for found, noun in some if found]
        done = "deleted" if self.deleted else "would be deleted with --delete"
        return f"{self.path}: {' and '.join(what)} {done}.{stays}"


def _amount(found: Mapping[str, int], noun: str) -> str:
    return f"{count(len(found), noun)} ({size(sum(found.values()))})"


def _files(found: Mapping[str, int]) -> list[JsonObject]:
    return [{"file": name, "size": bytes_} for name, bytes_ in sorted(found.items())]
