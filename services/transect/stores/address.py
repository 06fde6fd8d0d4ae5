"""Addresses of stores: a folder's path, or the URL of a bucket or container."""

from pathlib import Path
from urllib.parse import urlsplit

from transect.errors import InputError
from transect.settings import Settings
from transect.stores.folder import FolderStore
from transect.stores.store import Store

SCHEMES = ("s3", "gs", "az", "https", "http")
_FORMS = "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER or https://HOST/FOLDER"


def is_address(text: str) -> bool:
    """Whether a text is the URL of an object store rather than the path of a folder.

    Raises InputError for a URL of another kind, which would otherwise be read as a strange path.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.replace("+", "").isalnum():
        return False
    if scheme not in SCHEMES:
        raise InputError(f"{text} is an address of an unknown kind; give the path of a folder, {_FORMS}.")
    return True


def open_store(place: str, settings: Settings) -> Store:
    """The store at an address or in a folder; nothing is read yet.

    Credentials and endpoints come from the settings, never from the address. Raises InputError for an address that
    cannot be used, and where the library for object stores is not installed.
    """
    if not is_address(place):
        return FolderStore(Path(place))
    parts = urlsplit(place)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            f"{parts.scheme}://{parts.hostname or ''}{parts.path} must not hold credentials or options; set them in "
            "the environment (docs/environment.md), where no log and no manifest shows them."
        )
    if not parts.netloc:
        raise InputError(f"{place} names no bucket; give {_FORMS}.")
    try:
        from transect.stores.objects import ObjectStore
    except ImportError as error:
        raise InputError(
            f"{place} needs the library obstore, which is not installed; install transect[census]."
        ) from error
    return ObjectStore.open(parts.scheme, parts.netloc, parts.path.strip("/"), settings)
