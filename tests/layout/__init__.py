"""The layout on a disk, floor by floor: folders, blobs, names, the index, reading, writing."""
