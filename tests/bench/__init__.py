"""Benchmarks against the tools that a user would choose instead; `scripts/bench` runs them. Slow is not a failure."""
