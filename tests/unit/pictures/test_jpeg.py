"""JPEGs whose end is missing: the marker alone, or more."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transect.datasets.images import check_whole
from transect.errors import DatasetError, ImageError
from transect.imagery import decode_image, open_raster
from transect.pictures.jpeg import is_whole


def _jpeg(progressive: bool) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, progressive=progressive)
    return stream.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("rest", [b"", b"\0" * 100])
def test_a_file_that_lacks_only_its_end_marker_is_used_with_a_remark(progressive: bool, rest: bytes) -> None:
    whole = _jpeg(progressive)
    cut = whole[:-2] + rest
    np.testing.assert_array_equal(decode_image(cut, max_pixels=None), decode_image(whole, max_pixels=None))
    with open_raster(cut, max_pixels=None) as raster:
        assert raster.remarks == ("it lacks its end marker; all of its rows are there.",)
    check_whole(Path("a.jpg"), cut)


@pytest.mark.parametrize("progressive", [False, True])
def test_detection_and_training_sets_refuse_the_same_truncated_files(progressive: bool) -> None:
    whole = _jpeg(progressive)
    for lost in (40, 400, 1000, len(whole) // 2, len(whole) * 3 // 4):
        cut = whole[:-lost]
        assert not is_whole(cut)
        with pytest.raises(ImageError, match="truncated or damaged"):
            decode_image(cut, max_pixels=None)
        with pytest.raises(DatasetError, match="truncated"):
            check_whole(Path("a.jpg"), cut)
