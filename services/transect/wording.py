"""Words of messages: a number of things, and the error of a library on one line."""


def count_of(number: int, thing: str, things: str = "") -> str:
    """A number and its noun: 1 photo, 2 photos; `things` is a plural that does not end in an added s."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def one_line(error: object, limit: int = 300) -> str:
    """The text of an error or of anything else on one line, without a final full stop, cut at `limit` characters."""
    line = " ".join(str(error).split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"
