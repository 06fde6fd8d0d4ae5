"""Migrations of the decisions' tables, read by Alembic; schema.py runs them. A released one is never changed."""
