"""The class of all commands: options under headings in `--help`, and a check of environment variables."""

from __future__ import annotations

import os
from typing import Any

import click

_OWN = "Options"  # the heading of options that are not in the table
_MANY = 10  # from so many options on, headings help
_HEADINGS = {
    "Platforms and referrers": "--platform --all-platforms --sparse --referrers --include-foreign",
    "Names": "--as --prefix --strip-prefix --map --flatten",
    "Comparison": "--record --expect",
    "Repair": "--repair --from",
    "Registry": "--username --password-stdin --authfile --ca-file --insecure --plain-http",
    "Transfer": "--jobs --connections-per-blob --chunk-size --limit-rate --timeout --retries --max-wait",
    "Output": "--verbose --quiet --no-progress --json --junit --log-format",
    "General": "--config --help",
}
_HEADING_OF = {flag: heading for heading, flags in _HEADINGS.items() for flag in flags.split()}


class GroupedCommand(click.Command):
    """A command that refuses unknown `MIRROR_…` variables, and has many options under headings in `--help`."""

    def invoke(self, ctx: click.Context) -> Any:
        if any(name.startswith("MIRROR_") for name in os.environ):
            from mirror.config.settings import check_variables  # not needed by most runs

            read_here = (option.envvar for option in self.params)
            check_variables(os.environ, (name for name in read_here if isinstance(name, str)))
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (_OWN, *_HEADINGS)}
        for option in self.get_params(ctx):
            heading = next((_HEADING_OF[flag] for flag in option.opts if flag in _HEADING_OF), _OWN)
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                groups[heading].append(record)
        if sum(map(len, groups.values())) < _MANY:
            groups = {_OWN: [record for records in groups.values() for record in records]}
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
