"""Digest records, floor by floor: figures, history, the page, comparison."""
