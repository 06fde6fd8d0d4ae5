"""The account that this process runs under."""

import getpass


def user_name(otherwise: str) -> str:
    """The name of the user; `otherwise` where there is none, as in a container under a user id without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return otherwise
