"""Atomic and durable file operations, which know nothing of images."""
