"""The service's own routes."""
