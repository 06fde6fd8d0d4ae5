"""Bind mounts of one-shot containers."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from compose import ROOT, StackError

REMEMBERED = ROOT / "runs" / "stack" / "mounts.txt"
HOMES = ROOT / "runs" / "stack"


class Mounts:
    """Folders of this machine that are mounted into a container, each at its own path.

    With the same path inside and outside, absolute paths in a data.yaml stay valid, and a later promotion
    finds the test split at the path in the version's tag.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, bool] = {}

    @classmethod
    def remembered(cls) -> "Mounts":
        """The data folders of earlier trainings that still exist."""
        mounts = cls()
        if REMEMBERED.is_file():
            for line in REMEMBERED.read_text(encoding="utf-8").splitlines():
                if Path(line).is_dir():
                    mounts.add(Path(line))
        return mounts

    def remember(self) -> None:
        """Store the data folders for the promotion, which evaluates on the same test split."""
        known = REMEMBERED.read_text(encoding="utf-8").splitlines() if REMEMBERED.is_file() else []
        REMEMBERED.parent.mkdir(parents=True, exist_ok=True)
        lines = dict.fromkeys([*known, *map(str, self.folders)])
        REMEMBERED.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, folder: Path, *, writable: bool = False, as_caller: bool = False) -> None:
        """Mount `folder`, unless it is inside a mounted one.

        Unless the container runs `as_caller`, its user is another one: raises StackError for a folder
        that is not readable by others.
        """
        if any(folder.is_relative_to(known) for known in self.folders) and not writable:
            return
        if ":" in str(folder):
            raise StackError(f"Docker cannot mount {folder}, because of the colon in its name; rename it.")
        if not as_caller and folder.stat().st_mode & 0o005 != 0o005:
            raise StackError(f"{folder} is closed to the container's user; open it (chmod o+rx) or say RUNTIME=local.")
        self.folders[folder] = writable

    def file(self, name: str) -> str:
        """The path of a file inside the container; a name that is not a file stays unchanged."""
        path = Path(name).resolve()
        if not path.is_file():
            return name
        if path.is_relative_to(ROOT / "configs"):
            return str(path.relative_to(ROOT))  # compose.yaml mounts the recipes
        self.add(path.parent)
        return str(path)

    def dataset(self, data_yaml: Path, also: Sequence[str] = ()) -> str:
        """Mount a training set: the folder of its data.yaml, and the folders `also` (DATA_ALSO); nothing else.

        A data.yaml is untrusted, so it does not decide what is mounted. Raises StackError if it is missing, or refers
        to something outside these folders.
        """
        path = data_yaml.resolve()
        if not path.is_file():
            raise StackError(f"DATA={data_yaml} is no file; name an Ultralytics data.yaml.")
        if not path.is_relative_to(data_yaml.parent.resolve()):
            raise StackError(f"DATA={data_yaml} is a link to {path}, in another folder; name that file itself.")
        self.add(path.parent)
        for name in also:
            if not Path(name).is_dir():
                raise StackError(f"DATA_ALSO={name} is no folder; name folders, with a blank between two.")
            self.add(Path(name).resolve())
        for key, target in _named(path):
            if _is_there(target) and not any(target.is_relative_to(folder) for folder in self.folders):
                folder = target if target.is_dir() else target.parent
                raise StackError(
                    f"{data_yaml} names {key}: {target}, outside of its folder, which the trainer does not see; to "
                    f"mount it, add DATA_ALSO={shlex.quote(str(folder))}."
                )
        return str(path)

    def arguments(self) -> list[str]:
        """Options of `docker compose run`."""
        options = []
        for folder, writable in self.folders.items():
            options += ["--volume", f"{folder}:{folder}{'' if writable else ':ro'}"]
        return options


def _named(data_yaml: Path) -> list[tuple[str, Path]]:
    """The paths of path, train, val and test in a data.yaml with their keys: absolute, links resolved.

    Parsed without a YAML library, which is not installed yet: top-level keys with one plain value, or a list of them.
    Values in other forms are not mounted, and the trainer reports them as missing.
    """
    text = data_yaml.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    values: dict[str, list[str]] = {}
    for key, inline, below in re.findall(r"(?m)^[\"']?(path|train|val|test)[\"']?[ \t]*:(.*)((?:\n[ \t-].*)*)", text):
        if inline.strip().startswith("["):
            items = re.split(r"[\[\],\n]", inline + below)
        elif _plain(inline):
            items = [inline]
        else:
            items = [line.strip().removeprefix("-") for line in below.split("\n")]
        values[key] = [name for name in map(_plain, items) if name]
    root = data_yaml.parent.joinpath(*values.pop("path", [])[:1])
    named = [(key, (root / name).resolve()) for key, names in values.items() for name in names]
    return named or [("path", root.resolve())]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # too long for a name


def _plain(text: str) -> str:
    """A YAML value without its quotes and comment."""
    text = text.strip()
    if quoted := re.match(r"""(["'])(.*?)\1""", text):
        return quoted[2]
    return re.sub(r"(^|\s)#.*", "", text).strip()


def census_home(user: str) -> Path:
    """The persistent folder of the censuses of `user` (UID:GID): models, TensorRT's engines, and what MLflow lacks.

    A named volume belongs to the image's user, but a census runs as the caller, so a folder of this machine is
    needed. Each user has one, since no other user may write models into it. Raises StackError if it cannot
    be created.
    """
    uid, gid = (int(number) for number in user.split(":"))
    home = _home_of(user)
    try:
        HOMES.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        if os.getuid() != uid:
            os.chown(home, uid, gid)
    except OSError as error:
        raise StackError(
            f"{home} keeps what censuses need later, and cannot be made ({error.strerror}); make {HOMES} writable for "
            "you."
        ) from error
    return home


def censuses_wait(user: str) -> bool:
    """Whether MLflow lacks censuses of `user` (UID:GID)."""
    return any(_home_of(user).glob("census/*/spool/journal.jsonl"))


def _home_of(user: str) -> Path:
    return HOMES / f"census-{user.partition(':')[0]}"
