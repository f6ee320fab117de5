"""The version, for `--version`, registries and receipts."""

VERSION = "0.1.0"
