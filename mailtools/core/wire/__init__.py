"""What every line protocol shares: lines, line ends, transparency."""
