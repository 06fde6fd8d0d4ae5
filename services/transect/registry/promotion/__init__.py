"""The gate before production: comparison, decision, record."""
