"""Which folders of this machine a one-shot container sees."""

import os
import re
from pathlib import Path

from compose import ROOT, StackError

REMEMBERED = ROOT / "runs" / "stack" / "mounts.txt"
HOMES = ROOT / "runs" / "stack"


class Mounts:
    """Folders of this machine that a container sees, each at its own path.

    The same path inside and outside keeps absolute paths in a data.yaml true, and a later promotion
    finds the test split where the version's tag says it is.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, bool] = {}

    @classmethod
    def remembered(cls) -> "Mounts":
        """The data folders of earlier trainings that are still there."""
        mounts = cls()
        if REMEMBERED.is_file():
            for line in REMEMBERED.read_text(encoding="utf-8").splitlines():
                if Path(line).is_dir():
                    mounts.add(Path(line))
        return mounts

    def remember(self) -> None:
        """Keep the data folders for the promotion, which evaluates on the same test split."""
        known = REMEMBERED.read_text(encoding="utf-8").splitlines() if REMEMBERED.is_file() else []
        REMEMBERED.parent.mkdir(parents=True, exist_ok=True)
        lines = dict.fromkeys([*known, *map(str, self.folders)])
        REMEMBERED.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, folder: Path, *, writable: bool = False, as_caller: bool = False) -> None:
        """Mount `folder`, unless it lies in one that is mounted already.

        Unless the container runs `as_caller`, its user is a stranger here: what is closed to others
        is refused now, in one sentence.
        """
        if any(folder.is_relative_to(known) for known in self.folders) and not writable:
            return
        if ":" in str(folder):
            raise StackError(f"Docker cannot mount {folder}, because of the colon in its name; rename it.")
        if not as_caller and folder.stat().st_mode & 0o005 != 0o005:
            raise StackError(f"{folder} is closed to the container's user; open it (chmod o+rx) or say RUNTIME=local.")
        self.folders[folder] = writable

    def file(self, given: str) -> str:
        """The path of a file as the container sees it; a name that is no file stays what it is."""
        path = Path(given).resolve()
        if not path.is_file():
            return given
        if path.is_relative_to(ROOT / "configs"):
            return str(path.relative_to(ROOT))  # compose.yaml mounts the recipes
        self.add(path.parent)
        return str(path)

    def dataset(self, data_yaml: Path) -> str:
        """Mount a training set: the folder of its data.yaml, and the folders that it names elsewhere."""
        path = data_yaml.resolve()
        if not path.is_file():
            raise StackError(f"DATA={data_yaml} is no file; name an Ultralytics data.yaml.")
        self.add(path.parent)
        root = path.parent
        # Read without a YAML parser: four names with one plain value each, and whatever looks like an
        # absolute path (an entry of a list). The trainer reads it properly, and checks it.
        text = path.read_text(encoding="utf-8", errors="replace")
        named = dict(re.findall(r"(?m)^(path|train|val|test):[ \t]*[\"']?([^\s\"'#\[]+)", text))
        if "path" in named:
            root = (root / named.pop("path")).resolve()
            if root.is_dir():
                self.add(root)
        absolute = re.findall(r"(?<![\w./-])/[^\s\"'#,\]]+", text)
        for name in [*named.values(), *absolute]:
            target = (root / name).resolve()
            if target.exists():
                self.add(target if target.is_dir() else target.parent)
        return str(path)

    def arguments(self) -> list[str]:
        """Options of `docker compose run`."""
        options = []
        for folder, writable in self.folders.items():
            options += ["--volume", f"{folder}:{folder}{'' if writable else ':ro'}"]
        return options


def census_home(user: str) -> Path:
    """The folder that outlives the censuses of `user` (UID:GID), with their models and TensorRT's engines.

    A named volume belongs to the image's user, and a census runs as whoever calls it: only a folder of this
    machine can belong to any of them. Each has one of its own, since nobody else may write models into it.
    Raises StackError when it cannot be made.
    """
    uid, gid = (int(number) for number in user.split(":"))
    home = HOMES / f"census-{uid}"
    try:
        HOMES.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        if os.getuid() != uid:
            os.chown(home, uid, gid)
    except OSError as error:
        raise StackError(
            f"{home} keeps the models of a census and cannot be made ({error.strerror}); make {HOMES} writable for you."
        ) from error
    return home
