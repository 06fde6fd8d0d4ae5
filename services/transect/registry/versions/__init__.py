"""Model versions: what is registered, listed, fetched and kept."""
