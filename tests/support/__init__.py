"""Tools that the tests share: the command, sample images, stores in memory, servers, and simulated failures."""
