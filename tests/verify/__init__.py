"""Tests of the parts of verify."""
