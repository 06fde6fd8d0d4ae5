"""XMP as drones and cameras write it: attributes or elements, with the prefixes that every one of them uses."""

import re
from collections.abc import Mapping
from typing import Any

from PIL import Image

_KEYS = ("xmp", "XML:com.adobe.xmp")
_TIFF_TAG = 700
# Some phones and cameras append depth maps; what is looked for stands at the beginning.
_MOST_CHARACTERS = 1_000_000
_ITEM = re.compile(r"""(?<![/\w-])(drone-dji|drone-parrot|Camera|exif):(\w+)\s*(?:=\s*["']([^"']*)["']|>\s*([^<]*)<)""")


def xmp_items(image: Image.Image) -> Mapping[str, str]:
    """The values by `prefix:name`, for the prefixes drone-dji, drone-parrot, Camera (Pix4D) and exif."""
    raw: Any = next((image.info[key] for key in _KEYS if key in image.info), None)
    if raw is None:
        raw = getattr(image, "tag_v2", {}).get(_TIFF_TAG)
    if isinstance(raw, bytes):
        raw = raw[:_MOST_CHARACTERS].decode("utf-8", errors="replace")
    if not isinstance(raw, str):
        return {}
    items: dict[str, str] = {}
    for prefix, name, attribute, element in _ITEM.findall(raw[:_MOST_CHARACTERS]):
        items[f"{prefix}:{name}"] = (attribute or element).strip()
    return items
