"""All benchmarks, by their names, in the order of the table."""

from tests.bench import links, local, network, startup

CASES = {**network.CASES, **startup.CASES, **links.CASES, **local.CASES}
