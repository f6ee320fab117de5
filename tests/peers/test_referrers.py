"""Tests of referrers with skopeo and with Debian's docker-registry, which has no referrers API."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.peers.layouts import THREE, copied, everything
from tests.peers.programs import DockerRegistry, Program, Skopeo
from tests.support.images import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Blob,
    Image,
    Json,
    Remote,
    cosign_tag,
    digest_of,
    encode,
    multi_arch,
    signature,
)

pytestmark = pytest.mark.peer

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
KEY = ec.derive_private_key(20_17_09_21, ec.SECP256R1())
APP = multi_arch(THREE)
BILL = signature(APP, 1)
OVER = signature(BILL)


def cosigned(subject: Image) -> Image:
    """Make the artifact that `cosign sign --key` stores: a payload with the digest, and its ECDSA signature."""
    critical = {
        "identity": {"docker-reference": "registry.example/team/app"},
        "image": {"docker-manifest-digest": subject.root},
        "type": "cosign container image signature",
    }
    payload = Blob.of(encode({"critical": critical, "optional": None}), SIMPLE_SIGNING)
    signed = base64.b64encode(KEY.sign(payload.data, ec.ECDSA(hashes.SHA256()))).decode()
    config = Blob.of(encode({"rootfs": {"type": "layers", "diff_ids": [payload.digest]}}), OCI_CONFIG)
    layers = [payload.descriptor(annotations={ANNOTATION: signed})]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.descriptor(), "layers": layers}
    data = encode(document)
    root = digest_of(data)
    held = {one.digest: one.data for one in (config, payload)}
    return Image(root, OCI_MANIFEST, {root: (data, OCI_MANIFEST)}, held)


SIGNED = cosigned(APP)


def publish(registry: DockerRegistry) -> str:
    """Publish an image with a cosign signature, and with a bill of materials, which is signed too."""
    remote = Remote(registry.host)
    try:
        APP.publish(remote, "team/app", "1")
        SIGNED.publish(remote, "team/app", cosign_tag(APP))
        for one, subject in ((BILL, APP), (OVER, BILL)):
            one.publish(remote, "team/app", None)
            listed = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.descriptor()]})
            remote.put_manifest("team/app", subject.root.replace(":", "-"), listed, OCI_INDEX)
    finally:
        remote.close()
    return f"{registry.host}/team/app:1"


@pytest.fixture
def pushed(registry: DockerRegistry, second: DockerRegistry, mirror: Program) -> DockerRegistry:
    """A registry that got the image and its referrers from another one, through a layout."""
    mirror("pull", publish(registry), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    return second


def check_signature(folder: Path, subject: Image) -> None:
    """Check a signature as cosign does, over the raw bytes of a layer that skopeo copied to a directory."""
    document = json.loads((folder / "manifest.json").read_bytes())
    (node,) = document["layers"]
    payload = (folder / node["digest"].partition(":")[2]).read_bytes()
    KEY.public_key().verify(base64.b64decode(node["annotations"][ANNOTATION]), payload, ec.ECDSA(hashes.SHA256()))
    critical: Json = json.loads(payload)["critical"]
    assert critical["image"]["docker-manifest-digest"] == subject.root


@pytest.mark.slow
def test_image_and_referrers_survive_a_copy_through_two_registries(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    pulled = mirror("pull", publish(registry), "--all-platforms", "-o", "layout")
    assert "3 referrers" in pulled.err
    mirror("verify", "layout")
    mirror("push", "layout", second.host)
    tags = {"1", cosign_tag(APP), APP.root.replace(":", "-"), BILL.root.replace(":", "-")}
    assert set(second.tags("team/app")) == tags
    mirror("pull", f"{second.host}/team/app:1", "--all-platforms", "-o", "back")
    assert blob_names(tmp_path / "back") == blob_names(tmp_path / "layout")
    skopeo.copy(f"docker://{second.host}/team/app:{cosign_tag(APP)}", "dir:signature", "--preserve-digests")
    check_signature(tmp_path / "signature", APP)


def blob_names(layout: Path) -> set[str]:
    return {path.name for path in layout.glob("blobs/*/*")}


@pytest.mark.slow
def test_fallback_tag_lists_the_referrer_as_specified(pushed: DockerRegistry, skopeo: Skopeo) -> None:
    (child,) = json.loads(skopeo.raw(f"docker://{pushed.host}/team/app:{APP.root.replace(':', '-')}"))["manifests"]
    assert child == {
        "mediaType": OCI_MANIFEST,
        "digest": BILL.root,
        "size": len(BILL.data),
        "artifactType": "application/vnd.cncf.notary.signature",
        "annotations": {"n": "1"},
    }


@pytest.mark.slow
def test_tag_of_the_image_is_put_after_everything_that_refers_to_it(pushed: DockerRegistry) -> None:
    puts = [one.path.rpartition("/")[2] for one in pushed.requests() if one.method == "PUT"]
    assert puts[-1] == "1"
    assert {cosign_tag(APP), *(one.root.replace(":", "-") for one in (APP, BILL))} < set(puts)


@pytest.mark.slow
def test_second_push_does_not_rewrite_the_lists_of_referrers(pushed: DockerRegistry, mirror: Program) -> None:
    start = len(pushed.requests())
    assert "0 moved" in mirror("push", "layout", pushed.host).err
    puts = [one.path for one in pushed.requests(start) if one.method == "PUT" and "/manifests/sha256-" in one.path]
    assert puts == []  # neither lists nor tags that are right already


@pytest.mark.slow
def test_skopeo_finds_the_image_and_its_signature_in_the_layout(
    registry: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    mirror("pull", publish(registry), "--all-platforms", "-o", "layout")
    skopeo.copy("oci:layout:1", "dir:copy", "--all", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(APP)
    skopeo.copy(f"oci:layout:{cosign_tag(APP)}", "dir:signature", "--preserve-digests")
    check_signature(tmp_path / "signature", APP)


def test_signature_check_rejects_signatures_of_other_images(tmp_path: Path) -> None:
    other = cosigned(BILL)
    folder = tmp_path / "dir"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(other.data)
    for digest, data in other.blobs.items():
        (folder / digest.partition(":")[2]).write_bytes(data)
    check_signature(folder, BILL)
    with pytest.raises(AssertionError):
        check_signature(folder, APP)
    payload = next(path for path in folder.iterdir() if b"docker-manifest-digest" in path.read_bytes())
    payload.write_bytes(payload.read_bytes().replace(BILL.root.encode(), APP.root.encode()))
    with pytest.raises(InvalidSignature):
        check_signature(folder, APP)


@pytest.mark.slow
def test_tags_of_docker_registry_are_listed(registry: DockerRegistry, mirror: Program) -> None:
    publish(registry)
    lists = {APP.root.replace(":", "-"), BILL.root.replace(":", "-")}
    assert set(mirror("tags", f"{registry.host}/team/app").out.split()) == {"1", cosign_tag(APP), *lists}


@pytest.mark.slow
def test_two_requests_find_that_there_are_no_referrers(registry: DockerRegistry, mirror: Program) -> None:
    name = registry.publish(APP, "team/app", "1")
    start = len(registry.requests())
    mirror("pull", name, "--all-platforms", "-o", "layout")
    asked = [one for one in registry.requests(start) if "/referrers/" in one.path or "/tags/list" in one.path]
    assert [(one.path.rsplit("/", 2)[1], one.status) for one in asked] == [("referrers", 404), ("tags", 200)]
