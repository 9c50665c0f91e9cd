"""The queue: what is kept of mail on its way, when it is tried again, what its sender is told."""
