"""The reason why a photo or map has no place on the ground."""


class UnplacedError(Exception):
    """A photo or map that cannot be placed; the message is the reason, as a survey's issues name it.

    It stays inside the census: the animals of such a frame are counted apart.
    """
