"""The decisions of people on boxes and photos, and where they are kept."""

import logging

# Alembic logs the names of its parts while it is imported, then a line for each migration.
logging.getLogger("alembic").setLevel(logging.WARNING)
