"""Which model serves: the alias, the swap, the cache."""
