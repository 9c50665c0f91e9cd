"""The world: the only floor with sockets, files, clock and randomness."""
