"""Which version this is: for `--version`, for registries, and for receipts."""

VERSION = "0.1.0"
