"""Tests of digest records."""
