"""Concurrency with asyncio and threads."""

from mirror.concurrency.tasks import BackgroundTasks, available_cpus, end_tasks, map_concurrently, overlapped
from mirror.concurrency.threads import (
    PATIENCE,
    ThreadPool,
    gives_up,
    once_unused,
    settled,
    shielded,
    submit,
    to_thread,
    to_thread_cancellable,
)

__all__ = [
    "PATIENCE",
    "BackgroundTasks",
    "ThreadPool",
    "available_cpus",
    "end_tasks",
    "gives_up",
    "map_concurrently",
    "once_unused",
    "overlapped",
    "settled",
    "shielded",
    "submit",
    "to_thread",
    "to_thread_cancellable",
]
