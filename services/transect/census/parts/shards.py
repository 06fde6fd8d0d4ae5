"""Shards: a survey's photos divided among machines by their names, whoever else searches and in whatever order."""

import hashlib
from dataclasses import dataclass

from transect.errors import InputError


@dataclass(frozen=True)
class Shard:
    """The shard `number` of `count`, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """A shard as `3/7`. Raises InputError for anything else."""
        number, slash, count = text.partition("/")
        if not slash or not number.isascii() or not number.isdigit() or not count.isascii() or not count.isdigit():
            raise InputError(
                f"--shard {text} is not usable: give the shard's number and how many there are, as in 3/7."
            )
        shard = cls(int(number), int(count))
        if not 1 <= shard.number <= shard.count:
            raise InputError(
                f"--shard {text} is not usable: shards are numbered from 1 to {shard.count or 'their count'}; add 1 to "
                "an index that counts from 0."
            )
        return shard

    def has(self, name: str) -> bool:
        """Whether a photo belongs to the shard; photos that come later move no other into another one."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
