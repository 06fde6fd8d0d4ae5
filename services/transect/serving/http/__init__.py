"""HTTP concerns of every route: headers, bodies, connections, admission, errors."""
