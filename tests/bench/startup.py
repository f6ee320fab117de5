"""Benchmarks of short commands: start-up, and a list of images with nothing new."""

from functools import partial

from tests.bench import table
from tests.bench.measure import pairs_of, rounds
from tests.bench.rig import Case, Rig
from tests.bench.table import Row

SMALL = ("mirror pull $HOST/small:1 -o $FRESH", 'python -c "import aiohttp"')
SMALL_VERIFY = ("mirror verify $LAYOUT", 'python -c "import asyncio, click"')
_LIST = "mirror pull --from-file $NAMES --all-platforms -o"
LIST = (
    f"{_LIST} $PLAIN --no-referrers",
    "python $BENCH/heads.py $NAMES && mirror verify $PLAIN",
    f"{_LIST} $REFERRERS --referrers",
)
_MORE = 3  # times as many runs, since they are short


def startup(rig: Rig) -> list[Row]:
    rig.publish("tests.bench.samples", "small")
    layout = rig.folder / "small"
    rig.shell.run(SMALL[0], HOST=rig.host, FRESH=layout)
    runs = _MORE * rig.workload.pairs
    pulls = rounds("8 MB, pull", runs, *(partial(rig.pull, command) for command in SMALL))
    verifies = rounds("8 MB, verify", runs, *(partial(rig.read, command, layout) for command in SMALL_VERIFY))
    return [
        table.wall("pull of an 8 MB image, wall / Python importing aiohttp", pairs_of(pulls), 1.5),
        table.wall("verify of an 8 MB image, wall / Python importing asyncio and click", pairs_of(verifies), 1.5),
    ]


def nothing_new(rig: Rig) -> list[Row]:
    """Pull a list of images again: ten in each repository, and a signature for every tenth image."""
    images = rig.workload.images
    list_of_names = rig.folder / "names"
    list_of_names.write_text("\n".join(rig.publish("tests.bench.samples", "many", images)) + "\n")
    names = {"NAMES": list_of_names, "PLAIN": rig.folder / "plain", "REFERRERS": rig.folder / "referrers"}
    for command in (LIST[0], LIST[2]):
        rig.shell.run(command, **names)
    found = rounds("nothing new", rig.workload.pairs, *(partial(rig.shell.run, one, **names) for one in LIST))
    with_and_without = [(costs[2], costs[0]) for costs in found]
    what = f"pull of {images} images, nothing new"
    return [
        table.wall(f"{what}, wall / {images} HEADs and mirror verify", pairs_of(found), 2),
        table.wall(f"{what}, wall with referrers / without", with_and_without, 2),
    ]


CASES = {
    "startup": Case((*SMALL, *SMALL_VERIFY), startup),
    "many": Case(LIST, nothing_new),
}
