"""Hypothesis strategies: records of images, and text from hostile configs."""

from hypothesis import strategies as st

from mirror.oci.descriptor import Platform
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.records.document import HistoryEntry, Record, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
from mirror.records.history import escape
from tests.support import strategies

# Dates whose year has at most four digits.
times = st.integers(-62135596800, 253402300799)
sizes = st.integers(0, 2**63 - 1) | st.integers(0, 2000)
digests = strategies.any_digest.map(Digest)

_word = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,8}", fullmatch=True)
_features = st.lists(_word, max_size=3).map(tuple)
platforms = st.builds(Platform, _word, _word, st.none() | _word, st.none() | _word, _features, _features)
media_types = st.from_regex(r"[!-_a-~]{1,12}( {1,2}[!-_a-~]{1,5})?", fullmatch=True)

# Text from hostile configs, also with the syntax of records.
_PARTS = [
    "```",
    "\n",
    "# Wed, 13 Sep 2017 08:40:50 GMT",
    "# date unknown",
    "## `a:b`",
    "\t-\t`",
    "-\tLayers:",
]
_pieces = st.sampled_from(
    [*_PARTS, "\x1b[2J", "\r", "\u2028", "\x7f", "\ud800", "|1 A=b ", "/bin/sh -c ", "#(nop) ", "RUN "]
)
texts = st.text(max_size=20) | st.lists(_pieces | st.text(max_size=5), max_size=6).map("".join)
lists = st.none() | st.lists(texts, max_size=3).map(tuple)


@st.composite
def layers(draw: st.DrawFn) -> RecordedLayer:
    return RecordedLayer(draw(digests), draw(st.none() | sizes), draw(media_types), draw(st.none() | times))


@st.composite
def configs(draw: st.DrawFn) -> RecordedConfig:
    steps = st.builds(HistoryEntry, st.none() | times, texts.map(escape))
    version = draw(st.none() | texts.map(lambda text: escape(text).replace("\n", "")).filter(bool))
    return RecordedConfig(version, draw(lists), draw(lists), draw(lists), tuple(draw(st.lists(steps, max_size=4))))


@st.composite
def images(draw: st.DrawFn) -> RecordedImage:
    return RecordedImage(
        draw(st.none() | media_types),
        draw(st.none() | digests),
        tuple(draw(st.lists(layers(), max_size=4))),
        draw(configs()),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Draw the record of an image with or without a manifest list."""
    digest, media_type = draw(digests), draw(st.none() | media_types)
    name = Reference.parse(draw(strategies.names()).partition("@")[0]).familiar
    if media_type is None:
        manifests = [RecordedManifest(draw(platforms), digest, draw(images()))]
    else:
        manifests = draw(st.lists(st.builds(RecordedManifest, platforms, digests, images()), max_size=4))
    return Record(name, digest, media_type, tuple(manifests))
