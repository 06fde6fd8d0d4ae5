"""`python -m transect.serving`: run the detection service, configured by environment variables."""

import sys

from transect.errors import TransectError
from transect.serving.server import serve
from transect.settings import load_settings

if __name__ == "__main__":
    try:
        serve(load_settings())
    except TransectError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
