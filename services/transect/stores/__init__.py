"""Files by address: below a folder, or in an object store (S3, Google Cloud Storage, Azure, HTTP)."""

from transect.stores.address import is_address, open_store
from transect.stores.folder import FolderStore
from transect.stores.store import Store, StoredFile

__all__ = ["FolderStore", "Store", "StoredFile", "is_address", "open_store"]
