"""Options whose values stay in click's context, so that they need not be parameters of every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def kept_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator like `click.option`, but for an option whose value `kept` returns."""
    return click.option(*names, expose_value=False, callback=_keep, **attributes)


def kept(name: str) -> Any:
    """Return the value of an option; None if the running command does not have it, or if no command is running."""
    ctx = click.get_current_context(silent=True)
    return ctx.meta.get(f"mirror.{name}") if ctx else None


def _keep(ctx: click.Context, option: click.Parameter, value: object) -> None:
    ctx.meta[f"mirror.{option.name}"] = value
