"""Results as text for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from mirror.report.view import View

_FORMS = {  # result → module and function; a command loads only those of its own result
    "ImageList": "image_text.image_list",
    "Inspection": "image_text.inspection",
    "TagList": "image_text.tag_list",
    "RemoveReport": "layout_text.remove_report",
    "PruneReport": "layout_text.prune_report",
    "ServerInfo": "layout_text.server_info",
    "TransferReport": "transfer_text.transfer_report",
    "VerifyReport": "verify_text.verify_report",
}
_WHOLE = View()


@dataclass(frozen=True, slots=True)
class ResultText:
    """A result as text.

    Attributes:
        lines: for stdout; those that are `Labelled` begin with a label.
        summary: one line for stderr; may be empty.
        warnings: for stderr.
        errors: what failed, each with a hint if there is one; for stderr, even with --quiet.
    """

    lines: Sequence[str]
    summary: str = ""
    warnings: Sequence[str] = ()
    errors: Sequence[tuple[str, str | None]] = ()


def to_text(result: object, view: View = _WHOLE) -> ResultText:
    """Return a result as text. A verification and a list of images obey `view`; other results do not take one.

    Raises:
        TypeError: it is not a result.
    """
    kind = type(result)
    if kind.__module__.rpartition(".")[0] != __package__ or kind.__name__ not in _FORMS:
        raise TypeError(f"not a result: {result!r}")
    module, _, function = _FORMS[kind.__name__].partition(".")
    text: ResultText = getattr(import_module(f"{__package__}.{module}"), function)(result, view)
    return text
