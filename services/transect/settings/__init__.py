"""All environment variables, typed, in one table.

`.env` in the working directory is read too; environment variables take precedence. An unknown
TRANSECT_ name or a bad value stops the program with one line that names it. Variables that only
Compose reads (databases, passwords, ports on the host) are in the same table, so that a test can
compare it with `.env.example` and docs/environment.md.
"""

from transect.settings.environment import load_settings
from transect.settings.program import Settings, SourceDiff, listed
from transect.settings.stack import STACK_SECRETS, STACK_VARIABLES, StackVariable
from transect.settings.table import Variable, as_env_example, as_markdown, variables

__all__ = [
    "STACK_SECRETS",
    "STACK_VARIABLES",
    "Settings",
    "SourceDiff",
    "StackVariable",
    "Variable",
    "as_env_example",
    "as_markdown",
    "listed",
    "load_settings",
    "variables",
]
