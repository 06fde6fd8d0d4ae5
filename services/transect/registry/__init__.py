"""The model registry on MLflow: register packages, resolve aliases to verified folders, promote through a gate.

The names in __init__.pyi are imported when they are first used: MLflow's client takes seconds to import, and a service
that starts from its cache, or a command that does not use MLflow, should not wait for it.
"""

from transect import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
