"""Carry container images across an air gap, and prove that what arrived is what was published.

The library behind the `mirror` command:

    import asyncio
    from mirror import pull_image, push_images, verify_layout

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
    from mirror.content.finding import Finding
    from mirror.content.select import PlatformSelection
    from mirror.errors import MirrorError
    from mirror.manage.inspect import InspectOptions, inspect_images
    from mirror.manage.ls import list_images
    from mirror.manage.prune import prune_layout
    from mirror.manage.repair import repair_layout
    from mirror.manage.rm import remove_image
    from mirror.manage.tags import list_tags
    from mirror.oci.descriptor import Descriptor, Platform
    from mirror.oci.digest import Digest
    from mirror.oci.reference import Reference
    from mirror.records import Record, parse_records
    from mirror.records.capture import RecordOptions, record_images
    from mirror.registry import Credentials, RegistryOptions
    from mirror.registry.login import log_in, log_out
    from mirror.report.findings import Sample, VerifyLevel, VerifyReport
    from mirror.report.json import to_json
    from mirror.report.server import ServerInfo
    from mirror.report.transfers import TransferReport
    from mirror.retry import RetryPolicy
    from mirror.serve import ServeOptions, serve_layouts
    from mirror.transfer.copy import CopyOptions, copy_images
    from mirror.transfer.export import ArchiveFormat, ExportOptions, export_layout
    from mirror.transfer.import_ import ImportOptions, import_archive
    from mirror.transfer.naming import NameMapping
    from mirror.transfer.pull import PullOptions, pull_image, pull_images
    from mirror.transfer.push import PushOptions, push_images
    from mirror.verify import Verification, verify_layout
    from mirror.verify.image import verify_image
    from mirror.verify.receipt import verify_receipt

_HOMES = {
    "PlatformSelection": "content.select",
    "CopyOptions": "transfer.copy",
    "Credentials": "registry",
    "Descriptor": "oci.descriptor",
    "Digest": "oci.digest",
    "ExportOptions": "transfer.export",
    "Finding": "content.finding",
    "ArchiveFormat": "transfer.export",
    "VerifyLevel": "report.findings",
    "MirrorError": "errors",
    "RegistryOptions": "registry",
    "Platform": "oci.descriptor",
    "PullOptions": "transfer.pull",
    "PushOptions": "transfer.push",
    "Record": "records",
    "Reference": "oci.reference",
    "NameMapping": "transfer.naming",
    "RetryPolicy": "retry",
    "Sample": "report.findings",
    "ServeOptions": "serve",
    "ServerInfo": "report.server",
    "TransferReport": "report.transfers",
    "Verification": "verify",
    "VerifyReport": "report.findings",
    "copy_images": "transfer.copy",
    "export_layout": "transfer.export",
    "ImportOptions": "transfer.import_",
    "import_archive": "transfer.import_",
    "InspectOptions": "manage.inspect",
    "inspect_images": "manage.inspect",
    "list_images": "manage.ls",
    "log_in": "registry.login",
    "log_out": "registry.login",
    "parse_records": "records",
    "prune_layout": "manage.prune",
    "list_tags": "manage.tags",
    "pull_image": "transfer.pull",
    "pull_images": "transfer.pull",
    "push_images": "transfer.push",
    "RecordOptions": "records.capture",
    "record_images": "records.capture",
    "remove_image": "manage.rm",
    "repair_layout": "manage.repair",
    "serve_layouts": "serve",
    "to_json": "report.json",
    "verify_image": "verify.image",
    "verify_layout": "verify",
    "verify_receipt": "verify.receipt",
}

__all__ = [
    "ArchiveFormat",
    "CopyOptions",
    "Credentials",
    "Descriptor",
    "Digest",
    "ExportOptions",
    "Finding",
    "ImportOptions",
    "InspectOptions",
    "MirrorError",
    "NameMapping",
    "Platform",
    "PlatformSelection",
    "PullOptions",
    "PushOptions",
    "Record",
    "RecordOptions",
    "Reference",
    "RegistryOptions",
    "RetryPolicy",
    "Sample",
    "ServeOptions",
    "ServerInfo",
    "TransferReport",
    "Verification",
    "VerifyLevel",
    "VerifyReport",
    "copy_images",
    "export_layout",
    "import_archive",
    "inspect_images",
    "list_images",
    "list_tags",
    "log_in",
    "log_out",
    "parse_records",
    "prune_layout",
    "pull_image",
    "pull_images",
    "push_images",
    "record_images",
    "remove_image",
    "repair_layout",
    "serve_layouts",
    "to_json",
    "verify_image",
    "verify_layout",
    "verify_receipt",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"mirror.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mirror' has no attribute {name!r}")
