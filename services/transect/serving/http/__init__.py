"""HTTP around every route: heads, bodies, connections, admission, errors."""
