"""Settings of the user and of the machine: `mirror.toml` and `registries.conf`."""
