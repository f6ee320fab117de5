"""Benchmarks without a registry: verify, export and import; and serve."""

import time
from functools import partial

from tests.bench import scale, table
from tests.bench.measure import Cost, pairs_of, rounds, say, warm
from tests.bench.rig import CORES, MEMORY, Case, Rig, size_of
from tests.bench.servers import mirror_serve, nginx
from tests.bench.table import MIB, Row

CONTENT = (
    "mirror verify $LAYOUT",
    "python $BENCH/hashes.py $LAYOUT",
    f"ls $LAYOUT/blobs/sha256/* | xargs -P {CORES} -n 1 sha256sum",
)
LAYERS = (
    "mirror verify $LAYOUT --level layers",
    "for blob in $LAYOUT/blobs/sha256/*; do gunzip -c $blob 2>/dev/null | sha256sum; done",
)
STRUCTURE = "mirror verify $LAYOUT --level structure"
_TAR = "mkdir $FRESH && tar -C $LAYOUT -cf $FRESH/x.tar ."
_UNTAR = "mkdir $FRESH && tar -C $FRESH -xf $ARCHIVE"
EXPORT = ("mkdir $FRESH && mirror export $LAYOUT $FRESH/x.tar", _TAR, f"{_TAR} && sync $FRESH/x.tar")
IMPORT = ("mirror import $ARCHIVE $FRESH", _UNTAR, f"{_UNTAR} && sync --file-system $FRESH")
SERVE = "curl -sSf -o /dev/null http://$HOST/v2/large/blobs/sha256:$HEX"
NGINX = "curl -sSf -o /dev/null http://$HOST/$HEX"


def content(rig: Rig) -> list[Row]:
    size = rig.workload.hashed
    layout = rig.made("noise", "tests.bench.noise", size)
    found = rounds("verify", rig.workload.pairs, *(partial(rig.read, command, layout) for command in CONTENT))
    return [
        table.wall(f"verify of {size_of(size)}, wall / bare hash on all cores", pairs_of(found, 1), 1.1),
        table.wall(f"verify of {size_of(size)}, wall / sha256sum, {CORES} at once", pairs_of(found, 2)),
    ]


def layers(rig: Rig) -> list[Row]:
    layout = rig.made("layers", "tests.bench.layers", *rig.workload.unpacked)
    found = rounds("layers", rig.workload.pairs, *(partial(rig.read, command, layout) for command in LAYERS))
    pairs = pairs_of(found)
    return [
        table.wall("verify --level layers, wall / gunzip and sha256sum", pairs, 0.29),
        table.cpu("verify --level layers, CPU / gunzip and sha256sum", pairs),
        table.memory("verify --level layers, peak memory", [ours for ours, _ in pairs], most=MEMORY),
    ]


def structure(rig: Rig) -> list[Row]:
    """Verify many small blobs, and measure the memory per blob."""
    few, many, more = rig.workload.structure
    layouts = [rig.made(f"many-{blobs}", "tests.bench.many", blobs) for blobs in (few, many, more)]
    runs = (partial(rig.shell.run, STRUCTURE, LAYOUT=layout) for layout in layouts)
    found = rounds("structure", rig.workload.pairs, *runs)
    first, middle, last = ([costs[number] for costs in found] for number in range(3))
    each = (max(cost.memory for cost in last) - max(cost.memory for cost in first)) / (more - few)
    return [
        table.seconds(f"verify --level structure, {many:,} blobs", middle, 2.15),
        table.memory(f"verify --level structure, {many:,} blobs, peak memory", middle, most=49 * MIB),
        Row("verify --level structure, memory of one blob", f"{each:.0f} B", "", "", len(last), "≤ 241 B", each <= 241),
    ]


def archives(rig: Rig) -> list[Row]:
    """Compare with tar, which does not sync what it writes, and with tar and sync; mirror always syncs."""
    exports = rounds("export", rig.workload.pairs, *(partial(_write, rig, command) for command in EXPORT))
    imports = rounds("import", rig.workload.pairs, *(partial(_write, rig, command) for command in IMPORT))
    return [
        table.wall("export, wall / tar cf", pairs_of(exports, 1), 1.1),
        table.wall("export, wall / tar cf and sync", pairs_of(exports, 2), 0.58),
        table.memory("export, peak memory", [costs[0] for costs in exports], most=MEMORY),
        table.wall("import, wall / tar xf", pairs_of(imports, 1), 1.12),
        table.wall("import, wall / tar xf and sync", pairs_of(imports, 2), 0.61),
        table.memory("import, peak memory", [costs[0] for costs in imports], most=MEMORY),
    ]


def _write(rig: Rig, command: str) -> Cost:
    warm(rig.archive)
    with rig.space() as folder:
        return rig.read(command, rig.layout, ARCHIVE=rig.archive, FRESH=folder)


def serve(rig: Rig) -> list[Row]:
    """Download one large blob that the server has hashed before."""
    blobs = rig.large / "blobs/sha256"
    large = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    with rig.space() as folder, mirror_serve(rig.large) as ours, nginx(blobs, folder) as other:
        first = rig.shell.run(SERVE, HOST=ours, HEX=large.name)
        say(f"serve: the first request, which hashes, took {first.wall:.2f} s")
        time.sleep(3)  # until the file is older than the coarsest clock, so that it is not hashed again
        rig.shell.run(SERVE, HOST=ours, HEX=large.name)
        hosts = ((SERVE, ours), (NGINX, other))
        runs = (partial(rig.read, command, rig.large, HOST=host, HEX=large.name) for command, host in hosts)
        pairs = pairs_of(rounds("serve", rig.workload.pairs, *runs))
    return [table.wall(f"serve a {size_of(rig.workload.large)} blob, wall / nginx", pairs, 3)]


def lists(rig: Rig) -> list[Row]:
    """Measure whether the cost of a list is linear in its length."""
    return scale.measure(rig.folder, rig.workload.names)


CASES = {
    "verify": Case(CONTENT, content),
    "layers": Case(LAYERS, layers),
    "structure": Case((STRUCTURE,), structure),
    "archives": Case((*EXPORT, *IMPORT), archives),
    "serve": Case((SERVE, NGINX), serve),
    "scale": Case(tuple(scale.STEPS.values()), lists),
}
