"""The routes of Transect's own HTTP API."""
