"""Carry container images across an air gap, and prove that what arrived is what was published.

The library behind the `mirror` command:

    import asyncio
    from mirror import pull_image, push_images, verify_layout

    asyncio.run(pull_image("redis:4.0", "./layout"))
    report = asyncio.run(verify_layout("./layout"))
    print(report.verdict)

The names in `__all__` are public. They are imported on first use, so that a program which only verifies never loads an
HTTP client. The library prints nothing; it logs to the logger `mirror` and those below it.
"""

from __future__ import annotations

from mirror.version import VERSION

TYPE_CHECKING = False  # that of `typing` is not imported: see mirror.__main__

if TYPE_CHECKING:
    from mirror.config.hosts import HostSettings
    from mirror.content.finding import Finding
    from mirror.content.kinds import FindingKind, Severity, StoreKind
    from mirror.content.select import PlatformSelection
    from mirror.content.store import ImageProgress, Progress, Sink, Source
    from mirror.content.stream import BlobReader, Ranges
    from mirror.errors import (
        BlobsUnknown,
        BrokenArchive,
        BrokenLayout,
        ConfigError,
        ContentError,
        CorruptCompression,
        DecompressionBomb,
        DigestMismatch,
        InvalidContent,
        InvalidDigest,
        InvalidRecord,
        InvalidReference,
        LimitExceeded,
        ListenError,
        MirrorError,
        NotFound,
        PartialFailure,
        SizeConflict,
        SizeMismatch,
        StaleMirror,
        StorageError,
        TransferError,
        TypeConflict,
        Unauthorized,
        UnsupportedCompression,
        UnsupportedManifest,
        UsageError,
    )
    from mirror.layout import Layout
    from mirror.manage.inspect import InspectOptions, inspect_images
    from mirror.manage.ls import list_images
    from mirror.manage.prune import PruneOptions, prune_layout
    from mirror.manage.repair import RepairOptions, repair_layout
    from mirror.manage.rm import remove_images
    from mirror.manage.tags import TagOptions, list_tags
    from mirror.oci.descriptor import Descriptor, Platform
    from mirror.oci.digest import Digest
    from mirror.oci.reference import Reference
    from mirror.quota import Quota, QuotaUsage
    from mirror.records import Record, parse_records
    from mirror.records.capture import RecordOptions, record_images
    from mirror.records.document import HistoryEntry, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
    from mirror.registry import Credentials, RegistryOptions
    from mirror.registry.login import LoginOptions, LoginResult, LogoutResult, StoredLogin, log_in, log_out
    from mirror.report.findings import Verdict, VerifiedImage, VerifyLevel, VerifyReport
    from mirror.report.images import (
        ImageList,
        ImageSummary,
        InspectedBlob,
        InspectedImage,
        InspectedManifest,
        InspectedReferrer,
        TagList,
    )
    from mirror.report.json import to_json
    from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport, RemovedImage, RemoveReport, ServerInfo
    from mirror.report.text import ResultText, to_text
    from mirror.report.transfers import Amount, DiskSpace, ReferrerSummary, TransferredImage, TransferReport
    from mirror.report.verify_parts import Agreement, RepairReport, Sample
    from mirror.report.view import View
    from mirror.retry import RetryPolicy
    from mirror.serve import ServeOptions, serve_layouts
    from mirror.transfer.copy import CopyOptions, copy_images
    from mirror.transfer.export import ArchiveFormat, ExportOptions, export_layout
    from mirror.transfer.import_ import ImportOptions, import_archive
    from mirror.transfer.naming import NameMapping
    from mirror.transfer.pull import PullOptions, pull_image, pull_images
    from mirror.transfer.push import PushOptions, push_images
    from mirror.verify import Verification, VerifyOptions, verify_layout
    from mirror.verify.image import verify_image
    from mirror.verify.receipt import verify_receipt


__version__ = VERSION

__all__ = [
    "Agreement",
    "Amount",
    "ArchiveFormat",
    "BlobReader",
    "BlobsUnknown",
    "BrokenArchive",
    "BrokenLayout",
    "ConfigError",
    "ContentError",
    "CopyOptions",
    "CorruptCompression",
    "Credentials",
    "DecompressionBomb",
    "Descriptor",
    "Digest",
    "DigestMismatch",
    "DiskSpace",
    "ExportOptions",
    "Finding",
    "FindingKind",
    "HistoryEntry",
    "HostSettings",
    "ImageList",
    "ImageProgress",
    "ImageSummary",
    "ImportOptions",
    "InspectOptions",
    "InspectedBlob",
    "InspectedImage",
    "InspectedManifest",
    "InspectedReferrer",
    "InvalidContent",
    "InvalidDigest",
    "InvalidRecord",
    "InvalidReference",
    "Layout",
    "LimitExceeded",
    "ListenError",
    "LoginOptions",
    "LoginResult",
    "LogoutResult",
    "MirrorError",
    "NameMapping",
    "NotFound",
    "PartialFailure",
    "Platform",
    "PlatformSelection",
    "Progress",
    "PruneOptions",
    "PruneReport",
    "PrunedBlob",
    "PrunedFile",
    "PullOptions",
    "PushOptions",
    "Quota",
    "QuotaUsage",
    "Ranges",
    "Record",
    "RecordOptions",
    "RecordedConfig",
    "RecordedImage",
    "RecordedLayer",
    "RecordedManifest",
    "Reference",
    "ReferrerSummary",
    "RegistryOptions",
    "RemoveReport",
    "RemovedImage",
    "RepairOptions",
    "RepairReport",
    "ResultText",
    "RetryPolicy",
    "Sample",
    "ServeOptions",
    "ServerInfo",
    "Severity",
    "Sink",
    "SizeConflict",
    "SizeMismatch",
    "Source",
    "StaleMirror",
    "StorageError",
    "StoreKind",
    "StoredLogin",
    "TagList",
    "TagOptions",
    "TransferError",
    "TransferReport",
    "TransferredImage",
    "TypeConflict",
    "Unauthorized",
    "UnsupportedCompression",
    "UnsupportedManifest",
    "UsageError",
    "Verdict",
    "Verification",
    "VerifiedImage",
    "VerifyLevel",
    "VerifyOptions",
    "VerifyReport",
    "View",
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
    "remove_images",
    "repair_layout",
    "serve_layouts",
    "to_json",
    "to_text",
    "verify_image",
    "verify_layout",
    "verify_receipt",
]

_MODULES = {  # the same as above, for the interpreter
    "config.hosts": "HostSettings",
    "content.finding": "Finding",
    "content.kinds": "FindingKind Severity StoreKind",
    "content.select": "PlatformSelection",
    "content.store": "ImageProgress Progress Sink Source",
    "content.stream": "BlobReader Ranges",
    "errors": (
        "BlobsUnknown BrokenArchive BrokenLayout ConfigError ContentError CorruptCompression "
        "DecompressionBomb DigestMismatch InvalidContent InvalidDigest InvalidRecord InvalidReference "
        "LimitExceeded ListenError MirrorError NotFound PartialFailure SizeConflict SizeMismatch StaleMirror "
        "StorageError TransferError TypeConflict Unauthorized UnsupportedCompression UnsupportedManifest "
        "UsageError"
    ),
    "layout": "Layout",
    "manage.inspect": "InspectOptions inspect_images",
    "manage.ls": "list_images",
    "manage.prune": "PruneOptions prune_layout",
    "manage.repair": "RepairOptions repair_layout",
    "manage.rm": "remove_images",
    "manage.tags": "TagOptions list_tags",
    "oci.descriptor": "Descriptor Platform",
    "oci.digest": "Digest",
    "oci.reference": "Reference",
    "quota": "Quota QuotaUsage",
    "records": "Record parse_records",
    "records.capture": "RecordOptions record_images",
    "records.document": "HistoryEntry RecordedConfig RecordedImage RecordedLayer RecordedManifest",
    "registry": "Credentials RegistryOptions",
    "registry.login": "LoginOptions LoginResult LogoutResult StoredLogin log_in log_out",
    "report.findings": "Verdict VerifiedImage VerifyLevel VerifyReport",
    "report.images": "ImageList ImageSummary InspectedBlob InspectedImage InspectedManifest InspectedReferrer TagList",
    "report.json": "to_json",
    "report.layouts": "PrunedBlob PrunedFile PruneReport RemovedImage RemoveReport ServerInfo",
    "report.text": "ResultText to_text",
    "report.transfers": "Amount DiskSpace ReferrerSummary TransferredImage TransferReport",
    "report.verify_parts": "Agreement RepairReport Sample",
    "report.view": "View",
    "retry": "RetryPolicy",
    "serve": "ServeOptions serve_layouts",
    "transfer.copy": "CopyOptions copy_images",
    "transfer.export": "ArchiveFormat ExportOptions export_layout",
    "transfer.import_": "ImportOptions import_archive",
    "transfer.naming": "NameMapping",
    "transfer.pull": "PullOptions pull_image pull_images",
    "transfer.push": "PushOptions push_images",
    "verify": "Verification VerifyOptions verify_layout",
    "verify.image": "verify_image",
    "verify.receipt": "verify_receipt",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # or type checkers would accept every name

    def __getattr__(name: str) -> object:
        if name in _MODULE_OF:
            from importlib import import_module

            return getattr(import_module(f"mirror.{_MODULE_OF[name]}"), name)
        raise AttributeError(f"module 'mirror' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*__all__, *(name for name in globals() if name.startswith("__"))]
