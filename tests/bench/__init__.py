"""Measurements against what a user would pick instead; `scripts/bench` runs them. They are no tests: nothing fails."""
