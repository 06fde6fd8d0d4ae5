"""A store in S3, Google Cloud Storage, Azure or behind HTTP, through obstore; the only module that imports it."""

import errno
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from transect.errors import StoreError
from transect.settings import Settings
from transect.stores.store import StoredFile

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# How long a store that answered before may refuse or be away, and one that never answered. A server that restarts is
# back within a minute; a mistyped endpoint never is.
_PATIENCE_S, _FIRST_PATIENCE_S = 180.0, 8.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
# Of obstore's own: one short series of tries, so that the wait is ours and is said.
_RETRY: Any = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
_NOT_LISTED = "files.txt"


class ObjectStore:
    """The objects below a prefix of a bucket or container, or the files below a URL."""

    def __init__(self, store: Any, address: str, *, listed: bool = True) -> None:
        self._store = store
        self._address = address
        self._listed = listed
        self._answered = False

    @classmethod
    def open(cls, scheme: str, place: str, prefix: str, settings: Settings) -> "ObjectStore":
        """The store of an address's scheme, bucket (or host) and path, with the credentials of the settings."""
        prefix = unquote(prefix) if scheme in ("http", "https") else prefix
        below: Any = prefix or None
        client: Any = {"timeout": timedelta(seconds=300), "connect_timeout": timedelta(seconds=5)}
        address = f"{scheme}://{place}/{prefix}".rstrip("/")
        if scheme == "s3":
            config = settings.s3_options
            client["allow_http"] = str(config.get("endpoint", "")).startswith("http://")
            s3: Any = _set(config)
            return cls(S3Store(place, prefix=below, config=s3, client_options=client, retry_config=_RETRY), address)
        if scheme == "gs":
            gs: Any = _set(settings.gcs_options)
            return cls(GCSStore(place, prefix=below, config=gs, client_options=client, retry_config=_RETRY), address)
        if scheme == "az":
            az: Any = _set(settings.azure_options)
            client["allow_http"] = str(az.get("endpoint", "")).startswith("http://")
            return cls(AzureStore(place, prefix=below, config=az, client_options=client, retry_config=_RETRY), address)
        client["allow_http"] = scheme == "http"
        url = f"{scheme}://{place}/{prefix}".rstrip("/") + "/"
        return cls(HTTPStore.from_url(url, client_options=client, retry_config=_RETRY), address, listed=False)

    @property
    def address(self) -> str:
        """The address, without credentials."""
        return self._address

    def files(self, below: str = "") -> Iterator[StoredFile]:
        """See Store.files(). Of an HTTP server, which cannot list, those that its files.txt names, one a line."""
        if not self._listed:
            yield from self._named_files(below)
            return
        whole = self._patiently(lambda: [one for some in obstore.list(self._store, below or None) for one in some], "")
        for one in whole:
            yield _stored(one)

    def stat(self, name: str) -> StoredFile:
        """See Store.stat()."""
        return _stored(self._patiently(lambda: obstore.head(self._store, name), name))

    def read(self, name: str) -> tuple[bytes, StoredFile]:
        """See Store.read()."""

        def get() -> tuple[bytes, StoredFile]:
            found = obstore.get(self._store, name)
            return bytes(found.bytes()), _stored(found.meta)

        return self._patiently(get, name)

    def read_start(self, name: str, size: int) -> bytes:
        """See Store.read_start()."""
        return self._patiently(lambda: bytes(obstore.get_range(self._store, name, start=0, length=size)), name)

    def fetch(self, name: str, target: Path) -> StoredFile:
        """See Store.fetch()."""

        def get() -> StoredFile:
            found = obstore.get(self._store, name)
            with target.open("wb") as copy:
                for chunk in found.stream(min_chunk_size=1 << 20):
                    copy.write(bytes(chunk))
            return _stored(found.meta)

        return self._patiently(get, name)

    def write(self, name: str, content: bytes) -> StoredFile:
        """See Store.write()."""
        written = self._patiently(lambda: obstore.put(self._store, name, content, use_multipart=False), name)
        return StoredFile(name, len(content), str(written["e_tag"]))

    def create(self, name: str, content: bytes) -> bool:
        """See Store.create()."""
        try:
            self._patiently(lambda: obstore.put(self._store, name, content, mode="create", use_multipart=False), name)
        except FileExistsError:
            # A try whose answer was lost may have written it.
            return self._has(name, content)
        return True

    def replace(self, name: str, content: bytes, tag: str) -> bool:
        """See Store.replace()."""
        condition: Any = {"e_tag": tag}
        try:
            self._patiently(lambda: obstore.put(self._store, name, content, mode=condition, use_multipart=False), name)
        except FileExistsError:
            return self._has(name, content)
        return True

    def remove(self, name: str) -> None:
        """See Store.remove()."""
        try:
            self._patiently(lambda: obstore.delete(self._store, name), name)
        except FileNotFoundError:
            return

    def _has(self, name: str, content: bytes) -> bool:
        try:
            return self.read(name)[0] == content
        except FileNotFoundError:
            return False

    def _named_files(self, below: str) -> Iterator[StoredFile]:
        names, _ = self.read(_NOT_LISTED)
        for line in names.decode("utf-8", "replace").splitlines():
            name = line.strip().lstrip("/")
            if name and name.startswith(f"{below}/" if below else ""):
                yield self.stat(name)

    def _patiently(self, ask: Callable[[], Answer], name: str) -> Answer:
        """The store's answer. While it does not answer, or says that it cannot now, ask again for a while."""
        start, tries = time.monotonic(), 0
        place = f"{self._address}/{name}" if name else self._address
        while True:
            try:
                answer = ask()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise StoreError(f"{self._address}: there is no such bucket; check its name.") from error
                raise FileNotFoundError(errno.ENOENT, "there is no such object", place) from error
            except (AlreadyExistsError, PreconditionError) as error:
                raise FileExistsError(errno.EEXIST, "it was written meanwhile", place) from error
            except (PermissionDeniedError, UnauthenticatedError) as error:
                raise PermissionError(errno.EACCES, f"the store refuses it ({_reason(error)})", place) from error
            except BaseError as error:
                reason = _reason(error)
                self._raise_if_lasting(error, reason, place)
                patience = _PATIENCE_S if self._answered else _FIRST_PATIENCE_S
                waited = time.monotonic() - start
                if waited > patience:
                    raise StoreError(
                        f"{place} cannot be reached for {waited:.0f} s ({reason}); what was kept stays, so run the "
                        "same command again once the store answers, or check its address and endpoint."
                    ) from error
                if tries == len(_PAUSES_S) - 1:
                    logger.warning("%s does not answer (%s); trying again for %.0f s.", place, reason, patience)
                time.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
                tries += 1
            except ValueError as error:
                raise FileNotFoundError(errno.ENOENT, f"no such name is possible there ({error})", place) from error
            else:
                self._answered = True
                return answer

    def _raise_if_lasting(self, error: Exception, reason: str, place: str) -> None:
        """Raise what no patience mends: a missing bucket, a wrong key, a server that has no listing."""
        text = str(error)
        if "NoSuchBucket" in text:
            raise StoreError(f"{self._address}: there is no such bucket; check its name.") from error
        if any(f"status code: {code}" in text for code in (401, 403)):
            raise PermissionError(errno.EACCES, f"the store refuses it ({reason})", place) from error
        if any(f"status code: {code}" in text for code in (400, 404, 405, 411, 412, 416, 501)):
            raise StoreError(f"{place} cannot be used: {reason}.") from error


def _set(options: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if value}


def _stored(meta: Any) -> StoredFile:
    tag = meta["e_tag"] or f"{meta['last_modified'].isoformat()}-{meta['size']}"
    return StoredFile(meta["path"], int(meta["size"]), str(tag))


def _reason(error: Exception) -> str:
    """The cause in a few words: S3's code where the answer has one, else the first line of the message."""
    text = str(error)
    code = text.partition("<Code>")[2].partition("</Code>")[0]
    if code:
        return code
    if "Connection refused" in text or "ConnectionRefused" in text:
        return "connection refused"
    if "dns error" in text or "failed to lookup address" in text:
        return "its host name is not known"
    first = text.strip().splitlines()[0]
    status = first.partition("status code: ")[2].partition(":")[0]
    return status or first[:200]
