"""Files of the user and of the machine: `mirror.toml` and `registries.conf`, and how any of them is read."""
