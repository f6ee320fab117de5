"""Layouts and archives as particular versions of other tools write them; each builder is named after its tool."""

import gzip

from tests.support.images import OCI_CONFIG, OCI_LAYER, Blob, Image, config, layer, manifest, platform_of


def skopeo_1_9_encrypted(platform: str = "linux/amd64", *, seed: int = 1) -> Image:
    """Return an image of `skopeo copy --encryption-key`: encrypted layers, and the config of the plain ones."""
    plain = [layer(seed + number, 300) for number in range(2)]
    sealed = [Blob.of(bytes(byte ^ 0x5A for byte in one.data), f"{OCI_LAYER}+encrypted") for one in plain]
    return manifest(config(*platform.split("/"), layers=plain), sealed, platform_of(platform))


def opa_1_0_bundle(body: bytes = b"{}") -> Image:
    """Return a policy bundle of `opa build` as `oras` and `policy` push it: a tar layer, and a config that is empty."""
    files = gzip.compress(b"bundle", mtime=0)
    return manifest(Blob.of(body, OCI_CONFIG), [Blob.of(files, OCI_LAYER)])
