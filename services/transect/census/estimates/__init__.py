"""Numbers in, numbers out: estimates, their limits, corrections, differences. Pure."""
