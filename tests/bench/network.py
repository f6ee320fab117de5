"""Benchmarks of pull and push on loopback, over HTTP and TLS: time, CPU and memory."""

from collections.abc import Sequence
from functools import partial

from tests.bench import table
from tests.bench.measure import Cost, pairs_of, rounds, say
from tests.bench.rig import MEMORY, PULL, Case, Rig, size_of
from tests.bench.table import Row

_BARE = "python $BENCH/bare.py"
_SKOPEO = "skopeo copy --insecure-policy --all"

PULLS = (
    PULL,
    f"{_BARE} pull http://$HOST/bench:1 $FRESH",
    f"{_SKOPEO} --src-tls-verify=false docker://$HOST/bench:1 oci:$FRESH:1",
)
TLS_PULLS = (
    "mirror pull $TLS/bench:1 --all-platforms -o $FRESH --ca-file $CERTS/ca.crt",
    f"{_BARE} pull https://$TLS/bench:1 $FRESH $CERTS/ca.crt",
    f"{_SKOPEO} --src-cert-dir $CERTS docker://$TLS/bench:1 oci:$FRESH:1",
)
PUSHES = (
    "mirror push $LAYOUT $HOST",
    f"{_BARE} push http://$HOST/bench:1 $LAYOUT",
    f"{_SKOPEO} --dest-tls-verify=false oci:$LAYOUT:1 docker://$HOST/bench:1",
)
TLS_PUSHES = (
    "mirror push $LAYOUT $TLS --ca-file $CERTS/ca.crt",
    f"{_BARE} push https://$TLS/bench:1 $LAYOUT $CERTS/ca.crt",
    f"{_SKOPEO} --dest-cert-dir $CERTS oci:$LAYOUT:1 docker://$TLS/bench:1",
)
EDGE_PULL = "mirror pull $TLS/edge:1 -o $FRESH --ca-file $CERTS/ca.crt"
LARGE_PULL = "mirror pull $HOST/large:1 -o $FRESH"
_JOBS = (1, 4, 16, 64)


def pull(rig: Rig) -> list[Row]:
    return _pull(rig, "pull, HTTP", PULLS, 0.4)


def pull_tls(rig: Rig) -> list[Row]:
    return _pull(rig, "pull, TLS", TLS_PULLS, 0.5)


def push(rig: Rig) -> list[Row]:
    return _push(rig, "push, HTTP", PUSHES)


def push_tls(rig: Rig) -> list[Row]:
    return _push(rig, "push, TLS", TLS_PUSHES, tls=True)


def memory(rig: Rig) -> list[Row]:
    """Report the largest peak with up to 64 blobs at once: of large ones, a very large one, and many of 1 MB."""
    layouts = {f"24 blobs up to {size_of(150_000_000 // rig.workload.divisor)}": rig.layout}
    layouts |= {f"one blob of {size_of(rig.workload.large)}": rig.large}
    rows = []
    for (what, layout), command in zip(layouts.items(), (PULL, LARGE_PULL), strict=True):
        pulls, pushes = [], []
        for jobs in _JOBS:
            say(f"memory, {what}, -j {jobs}")
            pulls.append(rig.pull(f"{command} -j {jobs}"))
            pushes.append(rig.push(f"{PUSHES[0]} -j {jobs}", layout))
            say(f"pull {pulls[-1].memory >> 20} MiB, push {pushes[-1].memory >> 20} MiB")
        rows.append(table.memory(f"pull, {what}, largest peak memory of -j 1, 4, 16, 64", pulls, most=MEMORY))
        rows.append(table.memory(f"push, {what}, largest peak memory of -j 1, 4, 16, 64", pushes, most=MEMORY))
    tls = []
    for jobs in _JOBS[-2:]:
        say(f"memory, TLS, -j {jobs}")
        tls += [rig.pull(f"{TLS_PULLS[0]} -j {jobs}"), rig.push(f"{TLS_PUSHES[0]} -j {jobs}", rig.layout, tls=True)]
    rows.append(table.memory("pull and push, TLS, largest peak memory of -j 16, 64", tls, most=MEMORY))
    say("memory, blobs of 1 MB")
    edge = [rig.push(f"{TLS_PUSHES[0]} -j 64", rig.edge, tls=True), rig.pull(f"{EDGE_PULL} -j 64")]
    what = f"pull and push, {rig.workload.blobs} blobs of 1 MB, TLS, largest peak memory of -j 64"
    return [*rows, table.memory(what, edge, most=MEMORY)]


def _pull(rig: Rig, what: str, commands: Sequence[str], most: float) -> list[Row]:
    assert rig.layout, "published"
    found = rounds(what, rig.workload.pairs, *(partial(rig.pull, command) for command in commands))
    return _rows(what, found, most, cpu=1.4)


def _push(rig: Rig, what: str, commands: Sequence[str], *, tls: bool = False) -> list[Row]:
    runs = (partial(rig.push, command, rig.layout, tls=tls) for command in commands)
    return _rows(what, rounds(what, rig.workload.pairs, *runs), 0.5)


def _rows(what: str, found: Sequence[tuple[Cost, ...]], most: float, cpu: float | None = None) -> list[Row]:
    """Compare mirror with the bare loop and with skopeo, whose target is `most`."""
    bare, skopeo = pairs_of(found, 1), pairs_of(found, 2)
    ours, other = zip(*skopeo, strict=True)
    return [
        table.wall(f"{what}, wall / bare", bare, 1.2),
        table.cpu(f"{what}, CPU / bare", bare, cpu),
        table.wall(f"{what}, wall / skopeo", skopeo, most),
        table.cpu(f"{what}, CPU / skopeo", skopeo),
        table.memory(f"{what}, peak memory / skopeo", ours, other, MEMORY),
    ]


CASES = {
    "pull": Case(PULLS, pull),
    "pull-tls": Case(TLS_PULLS, pull_tls),
    "push": Case(PUSHES, push),
    "push-tls": Case(TLS_PUSHES, push_tls),
    "memory": Case(
        (
            f"{PULL} -j 64",
            f"{LARGE_PULL} -j 64",
            f"{PUSHES[0]} -j 64",
            f"{TLS_PULLS[0]} -j 64",
            f"{TLS_PUSHES[0]} -j 64",
        ),
        memory,
    ),
}
