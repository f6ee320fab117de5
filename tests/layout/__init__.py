"""Tests of layouts on a disk: directories, blobs, names, the index, reading and writing."""
