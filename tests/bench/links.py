"""Benchmarks of pulls over slow links, and onto a disk whose fsync takes half a second."""

from functools import partial

from tests.bench import table
from tests.bench.link import slow_link
from tests.bench.measure import Cost, pairs_of, rounds, say
from tests.bench.rig import MEMORY, Case, Rig, size_of
from tests.bench.table import Row

DISTANT = (
    "mirror pull $LINK/distant:1 -o $FRESH",
    "mirror pull $LINK/distant:1 -o $FRESH --connections-per-blob 1",
    "skopeo copy --insecure-policy --src-tls-verify=false docker://$LINK/distant:1 oci:$FRESH:1",
)
TRICKLE = "mirror pull $LINK/trickle:1 -o $FRESH"
DISK = tuple(f"PYTHONPATH=$BENCH/slow_disk mirror pull $HOST/blobs:1 -o $FRESH -j {jobs}" for jobs in (16, 1))

_DELAY = 0.025  # seconds; a round trip takes twice as long
_EACH = 10_000_000  # bytes per second
_ALL = 1_000_000


def distant(rig: Rig) -> list[Row]:
    """Pull one blob over a link that limits each connection to 10 MB/s, with a round trip of 50 ms."""
    size = rig.workload.distant
    rig.publish("tests.bench.large", "distant", 1, size)
    with slow_link(rig.host, _EACH, _DELAY) as link:
        runs = (partial(rig.pull, command, LINK=link) for command in DISTANT)
        found = rounds("slow link", rig.workload.pairs, *runs)
    what = f"pull of {size_of(size)}, 10 MB/s per connection"
    return [
        table.wall(f"{what}, wall / one connection", pairs_of(found, 1), 0.17),
        table.wall(f"{what}, wall / skopeo", pairs_of(found, 2)),
        table.memory(f"{what}, peak memory", [costs[0] for costs in found], most=MEMORY),
    ]


def trickle(rig: Rig) -> list[Row]:
    """Pull one blob over a link that limits all connections together, and compare with the time its bytes take."""
    size = rig.workload.trickle
    rig.publish("tests.bench.large", "trickle", 1, size)
    with slow_link(rig.host, _ALL, _DELAY, together=True) as link:
        runs = (partial(rig.pull, TRICKLE, LINK=link), lambda: Cost(size / _ALL, 0, 0))
        found = rounds("trickle", rig.workload.pairs, *runs)
    return [table.wall(f"pull of {size_of(size)}, 1 MB/s in total, wall / bytes at that rate", pairs_of(found), 1.03)]


def disk(rig: Rig) -> list[Row]:
    """Pull many blobs onto a disk whose fsync takes half a second longer; a pair takes four minutes."""
    blobs = rig.workload.blobs
    rig.publish("tests.bench.samples", "blobs", blobs)
    found = rounds("slow disk", rig.workload.pairs, *(partial(_on_slow_disk, rig, command, blobs) for command in DISK))
    return [table.wall(f"pull of {blobs} blobs, fsync takes 0.5 s, wall of -j 16 / -j 1", pairs_of(found), 0.15)]


def _on_slow_disk(rig: Rig, command: str, blobs: int) -> Cost:
    """Run a command, and make sure that it did wait for the slow disk: at least once for each blob."""
    with rig.space() as counted:
        cost = rig.pull(command, FSYNCS=counted)
        syncs = counted.stat().st_size if counted.exists() else 0
        counted.unlink(missing_ok=True)
    say(f"{syncs} calls of fsync")
    if syncs < blobs:
        raise SystemExit(f"{command}\n{syncs} calls of fsync for {blobs} blobs: the slow disk is not simulated")
    return cost


CASES = {
    "slow": Case(DISTANT, distant),
    "trickle": Case((TRICKLE,), trickle),
    "disk": Case(DISK, disk),
}
