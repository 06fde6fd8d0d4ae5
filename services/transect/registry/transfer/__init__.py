"""Runs and models from one store to another."""
