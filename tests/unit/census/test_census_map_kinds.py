"""Maps as photogrammetry and satellites write them: placed, searched in their colours, and of a true area."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.crs
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from observation_builders import path_of
from transect.census.ground.orthomosaic import read_georeference
from transect.census.ground.placement.frames import Frame
from transect.census.ground.placement.positions import place_frames
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.survey import load_survey
from transect.census.sightings.detect import _shown_as
from transect.errors import SurveyError
from transect.imagery import Rendering, open_raster

_SIDE = 200
_GSD = 0.1
_SURVEY = "name: map\nsampling: total\nstrata: [{name: plain, area_km2: 0.0004}]\ntransects: {from: none}\n"


def _scene(bands: int = 3, most: int = 255) -> NDArray[np.uint16]:
    """Ground with a coloured patch: (bands, H, W), where band b of the patch has the value most * (b + 1) / 8."""
    random = np.random.default_rng(0)
    samples = random.integers(most // 3, most // 2, (bands, _SIDE, _SIDE)).astype(np.uint16)
    for band in range(bands):
        samples[band, 80:100, 60:90] = most * (band + 1) // 8
    samples[:, 150, 150:170] = most * 19 // 20
    samples[:, 150, 150] = most
    return samples


def _from(easting: float) -> rasterio.Affine:
    return rasterio.Affine(_GSD, 0, easting, 0, -_GSD, 9_834_000)


def _write(path: Path, samples: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = samples.shape
    place = {"crs": "EPSG:32736", "transform": _from(734_000)}
    shape = {"height": height, "width": width, "count": count, "dtype": samples.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **{**place, **shape, **options}) as dataset:
        dataset.write(samples)
    return path


def _placed(folder: Path, text: str = _SURVEY) -> Frame:
    (folder / "survey.yaml").write_text(text)
    (frame,) = place_frames(load_survey(folder), 20.0).frames
    return frame


def _patch(frame: Frame) -> list[int]:
    with open_raster(path_of(frame), max_pixels=None, rendering=frame.rendering) as raster:
        return [round(float(one)) for one in raster.read(62, 82, 20, 10).mean(axis=(0, 1))]


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize(
    ("bands", "most", "options"),
    [
        (4, 255, {"photometric": "minisblack"}),
        (4, 255, {"photometric": "rgb"}),
        (3, 65535, {"photometric": "minisblack"}),
        (4, 65535, {"photometric": "rgb", "compress": "deflate"}),
        (3, 4095, {"photometric": "rgb", "compress": "lzw"}),
        (3, 4095, {"photometric": "rgb", "nbits": 12}),
        (3, 1023, {"bigtiff": "yes", "photometric": "minisblack"}),
    ],
)
def test_maps_are_searched_in_their_colours(
    tmp_path: Path, bands: int, most: int, options: dict[str, Any], interleave: str
) -> None:
    samples = _scene(bands, most).astype(np.uint8 if most == 255 else np.uint16)
    _write(tmp_path / "images" / "map.tif", samples, interleave=interleave, **options)
    frame = _placed(tmp_path)
    assert frame.placement is not None
    np.testing.assert_allclose(_patch(frame), [31, 63, 95], atol=1)
    said_itself = most in (255, 65535) or "nbits" in options
    assert any("16-bit samples reach" in remark for remark in frame.remarks) != said_itself


def test_five_bands_are_refused_with_the_key_to_write_and_read_with_it(tmp_path: Path) -> None:
    _write(tmp_path / "images" / "map.tif", _scene(5).astype(np.uint8), photometric="minisblack")
    with pytest.raises(SurveyError, match=r"5 bands and none is named a colour; .*`bands: \[3, 2, 1\]` in survey.yaml"):
        _placed(tmp_path)
    frame = _placed(tmp_path, f"{_SURVEY}bands: [3, 2, 1]\n")
    np.testing.assert_allclose(_patch(frame), [95, 63, 31], atol=1)
    with pytest.raises(SurveyError, match="band 9 was asked for"):
        _placed(tmp_path, f"{_SURVEY}bands: [9, 2, 1]\n")
    with pytest.raises(SurveyError, match="bands are three numbers"):
        _placed(tmp_path, f"{_SURVEY}bands: [1, 2]\n")


def test_maps_of_one_survey_are_shown_alike(tmp_path: Path) -> None:
    """A dark one of 12 bits has samples of 9: alone it would be brightened."""
    dark = (_scene(3, 4095) // 8).astype(np.uint16)
    _write(tmp_path / "images" / "a.tif", _scene(3, 4095), photometric="rgb")
    _write(tmp_path / "images" / "b.tif", dark, photometric="rgb", transform=_from(734_050))
    (tmp_path / "survey.yaml").write_text(_SURVEY.replace("0.0004", "0.01"))
    frames = place_frames(load_survey(tmp_path), 20.0).frames
    assert [frame.rendering.depth for frame in frames] == [12, 12]
    # What was found is kept by how the samples were shown.
    assert {_shown_as(frame.rendering) for frame in frames} == {"-12bit"}
    assert _shown_as(Rendering((3, 2, 1), 12)) == "-bands3-2-1-12bit"
    assert not _shown_as(Rendering())


@pytest.mark.parametrize("border", [0, 255])
@pytest.mark.parametrize("hidden_by", ["opaque alpha", "nodata of another value"])
def test_a_border_that_the_mask_calls_ground_is_none(tmp_path: Path, border: int, hidden_by: str) -> None:
    samples = np.maximum(_scene(4 if hidden_by == "opaque alpha" else 3), 1).astype(np.uint8)
    samples = np.minimum(samples, 254)
    samples[:3, : _SIDE // 2, : _SIDE // 2] = border
    path = tmp_path / "map.tif"
    if hidden_by == "opaque alpha":
        samples[3] = 255
        _write(path, samples, photometric="rgb", alpha="yes")
    else:
        _write(path, samples, photometric="rgb", nodata=255 - border)
    with pytest.raises(UnplacedError, match=r"^no area: 25% of it is black or white without ground.*nearblack"):
        read_georeference(path)


def test_a_black_border_beside_what_the_mask_leaves_out_is_no_ground_either(tmp_path: Path) -> None:
    samples = np.maximum(_scene(), 1).astype(np.uint8)
    samples[:, :60] = 254
    samples[:, :40] = 255
    samples[:, 40:60, 10:190] = 0
    path = _write(tmp_path / "map.tif", np.minimum(samples, 255), photometric="rgb", nodata=255)
    with pytest.raises(UnplacedError, match="9% of it is black"):
        read_georeference(path)


def test_a_true_alpha_gives_the_true_area(tmp_path: Path) -> None:
    samples = np.maximum(_scene(4), 1).astype(np.uint8)
    samples[3] = 255
    samples[:, : _SIDE // 2, : _SIDE // 2] = 0
    path = _write(tmp_path / "map.tif", samples, photometric="rgb", alpha="yes")
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    found = read_georeference(path)
    assert found is not None
    assert found.valid.area == pytest.approx(0.75 * _SIDE**2, rel=0.01)
