"""Carry container images across an air gap, and prove that what arrived is what was published.

The library behind the `mirror` command:

    import asyncio
    from mirror import pull_image, push_layout, verify_layout

    asyncio.run(pull_image("redis:4.0", "./layout"))
    report = asyncio.run(verify_layout("./layout"))
    print(report.verdict)

What is listed in `__all__` is public. It is imported when it is first used, so that a program which only verifies
never loads an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mirror.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from mirror.copying import CopyOptions, copy_images
    from mirror.descriptor import Descriptor, Platform
    from mirror.destination import Renaming
    from mirror.digest import Digest
    from mirror.errors import MirrorError
    from mirror.exporting import ExportOptions, Format, export_layout
    from mirror.finding import Finding
    from mirror.importing import import_archive
    from mirror.inspection import inspect_image, inspect_layout
    from mirror.inventory import list_layout, remove_image
    from mirror.login import log_in, log_out
    from mirror.prune import prune_layout
    from mirror.pull import PullOptions, pull_image, pull_images
    from mirror.push import PushOptions, push_layout
    from mirror.receipt import verify_receipt
    from mirror.record import Record, parse_records
    from mirror.recording import record_image, record_layout
    from mirror.reference import Reference
    from mirror.registry import Credentials, Options
    from mirror.repair import repair_layout
    from mirror.report.findings import Level, Sample, VerifyReport
    from mirror.report.transfers import TransferReport
    from mirror.retry import Retry
    from mirror.selection import Choice
    from mirror.serve import ServeOptions, Serving, serve_layouts
    from mirror.streaming import verify_image
    from mirror.tags import list_tags
    from mirror.verify import Verification, verify_layout

_HOMES = {
    "Choice": "selection",
    "CopyOptions": "copying",
    "Credentials": "registry",
    "Descriptor": "descriptor",
    "Digest": "digest",
    "ExportOptions": "exporting",
    "Finding": "finding",
    "Format": "exporting",
    "Level": "report.findings",
    "MirrorError": "errors",
    "Options": "registry",
    "Platform": "descriptor",
    "PullOptions": "pull",
    "PushOptions": "push",
    "Record": "record",
    "Reference": "reference",
    "Renaming": "destination",
    "Retry": "retry",
    "Sample": "report.findings",
    "ServeOptions": "serve",
    "Serving": "serve",
    "TransferReport": "report.transfers",
    "Verification": "verify",
    "VerifyReport": "report.findings",
    "copy_images": "copying",
    "export_layout": "exporting",
    "import_archive": "importing",
    "inspect_image": "inspection",
    "inspect_layout": "inspection",
    "list_layout": "inventory",
    "log_in": "login",
    "log_out": "login",
    "parse_records": "record",
    "prune_layout": "prune",
    "list_tags": "tags",
    "pull_image": "pull",
    "pull_images": "pull",
    "push_layout": "push",
    "record_image": "recording",
    "record_layout": "recording",
    "remove_image": "inventory",
    "repair_layout": "repair",
    "serve_layouts": "serve",
    "verify_image": "streaming",
    "verify_layout": "verify",
    "verify_receipt": "receipt",
}

__all__ = [
    "Choice",
    "CopyOptions",
    "Credentials",
    "Descriptor",
    "Digest",
    "ExportOptions",
    "Finding",
    "Format",
    "Level",
    "MirrorError",
    "Options",
    "Platform",
    "PullOptions",
    "PushOptions",
    "Record",
    "Reference",
    "Renaming",
    "Retry",
    "Sample",
    "ServeOptions",
    "Serving",
    "TransferReport",
    "Verification",
    "VerifyReport",
    "copy_images",
    "export_layout",
    "import_archive",
    "inspect_image",
    "inspect_layout",
    "list_layout",
    "list_tags",
    "log_in",
    "log_out",
    "parse_records",
    "prune_layout",
    "pull_image",
    "pull_images",
    "push_layout",
    "record_image",
    "record_layout",
    "remove_image",
    "repair_layout",
    "serve_layouts",
    "verify_image",
    "verify_layout",
    "verify_receipt",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"mirror.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mirror' has no attribute {name!r}")
