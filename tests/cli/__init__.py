"""The `mirror` command, end to end, against an embedded registry."""
