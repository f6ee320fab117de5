"""Digest records, floor by floor: text forms, history, the page, comparison."""
