from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer
from rasterio.control import GroundControlPoint

from transect.census.ground.geometry import Grid
from transect.census.ground.orthomosaic import Georeference, Mosaic, read_georeference
from transect.census.ground.unplaced import UnplacedError

GRID = Grid(32736)
WEST, NORTH, GSD = 700_000.0, 9_850_000.0, 0.5
PLAIN = rasterio.Affine(GSD, 0, WEST, 0, -GSD, NORTH)


def picture(width: int = 60, height: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(1, 255, (3, height, width), dtype=np.uint8)


def write(
    path: Path,
    pixels: NDArray[np.uint8],
    transform: rasterio.Affine = PLAIN,
    crs: str | None = "EPSG:32736",
    **more: object,
) -> Path:
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", crs=crs, transform=transform,
        width=width, height=height, count=count, **more,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def opened(path: Path) -> Mosaic:
    found = read_georeference(path)
    assert found is not None
    return Mosaic(found, GRID.epsg)


def test_a_map_lies_where_it_says(tmp_path: Path) -> None:
    mosaic = opened(write(tmp_path / "a.tif", picture()))
    ground = mosaic.to_ground(np.array([[0.0, 0.0], [60, 40], [30.5, 7.25]]))
    assert ground == pytest.approx(np.array([[WEST, NORTH], [WEST + 30, NORTH - 20], [WEST + 15.25, NORTH - 3.625]]))
    assert mosaic.to_pixels(ground)[2] == pytest.approx([30.5, 7.25], abs=1e-5)
    assert mosaic.outline().area == pytest.approx(30 * 20)
    assert mosaic.scale_at(np.array([[3.0, 4.0]])) == pytest.approx([GSD])
    assert mosaic.pose_error_sd(ground, 5, 5) == pytest.approx([0, 0, 0])
    # The grid's scale so far from its meridian is removed from the result.
    assert mosaic.georeference.gsd_m == pytest.approx(GSD / GRID.scale_at(np.array([[mosaic.x, mosaic.y]]))[0])


def test_a_turned_and_sheared_map_comes_back(tmp_path: Path) -> None:
    affine = rasterio.Affine(0.173, 0.12, WEST, 0.1, -0.16, NORTH)
    mosaic = opened(write(tmp_path / "a.tif", picture(), affine))
    pixels = np.array([[0.0, 0.0], [60, 0], [60, 40], [0, 40], [11, 29]])
    assert mosaic.to_pixels(mosaic.to_ground(pixels)) == pytest.approx(pixels, abs=1e-5)
    assert mosaic.outline().area == pytest.approx(60 * 40 * (0.173 * 0.16 + 0.12 * 0.1))
    assert mosaic.scale_at(pixels) == pytest.approx(np.sqrt(mosaic.outline().area / 2400), rel=1e-4)


def test_a_map_in_degrees_is_put_on_the_grid_exactly(tmp_path: Path) -> None:
    mosaic = opened(write(tmp_path / "a.tif", picture(), rasterio.Affine(1e-4, 0, 36.0, 0, -1e-4, -1.3), "EPSG:4326"))
    pixels = np.array([[0.0, 0.0], [60, 40], [17, 3]])
    expected = GRID.forward(36.0 + pixels[:, 0] * 1e-4, -1.3 - pixels[:, 1] * 1e-4)
    assert mosaic.to_ground(pixels) == pytest.approx(expected, abs=1e-4)
    assert mosaic.to_pixels(expected) == pytest.approx(pixels, abs=1e-4)


def test_ground_is_what_the_mask_leaves(tmp_path: Path) -> None:
    pixels = picture()
    pixels[:, :, 40:] = 0
    assert opened(write(tmp_path / "nodata.tif", pixels, nodata=0)).outline().area == pytest.approx(40 * 40 * GSD**2)
    alpha = np.full((1, 40, 60), 255, np.uint8)
    alpha[0, 10:, :30] = 0
    path = write(tmp_path / "alpha.tif", np.concatenate([picture(), alpha]), photometric="RGB", alpha="YES")
    assert opened(path).outline().area == pytest.approx((2400 - 900) * GSD**2)


def test_the_mask_of_a_large_map_is_read_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(600, 400)
    pixels[:, :, 450:] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    monkeypatch.setattr("transect.census.ground.orthomosaic._MASK_SIDE", 60)
    assert opened(path).outline().area == pytest.approx(450 * 400 * GSD**2, rel=0.01)


def test_a_collar_that_is_not_marked_is_refused(tmp_path: Path) -> None:
    pixels = picture()
    pixels[:, :, 48:] = 0
    with pytest.raises(UnplacedError, match=r"^no area: 20% of it is black or white"):
        read_georeference(write(tmp_path / "a.tif", pixels))
    # Dark spots inside the picture are ground.
    pixels = picture()
    pixels[:, 10:20, 10:20] = 0
    assert isinstance(read_georeference(write(tmp_path / "b.tif", pixels)), Georeference)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_what_is_no_map_or_a_map_without_a_place_is_told_apart(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.tif")
    assert read_georeference(tmp_path / "photo.tif") is None
    (tmp_path / "text.tif").write_text("no image")
    assert read_georeference(tmp_path / "text.tif") is None
    with pytest.raises(UnplacedError, match="without a coordinate reference system"):
        read_georeference(write(tmp_path / "nowhere.tif", picture(), crs=None))
    with pytest.raises(UnplacedError, match=r"^no area: its mask leaves nothing of it\.$"):
        read_georeference(write(tmp_path / "empty.tif", np.zeros((3, 9, 9), np.uint8), nodata=0))
    corners = [GroundControlPoint(row=r, col=c, x=35 + c / 1e4, y=-1 - r / 1e4) for r, c in ((0, 0), (0, 9), (9, 0))]
    with rasterio.open(tmp_path / "gcp.tif", "w", driver="GTiff", dtype="uint8", width=9, height=9, count=1) as dataset:
        dataset.write(np.ones((1, 9, 9), np.uint8))
        dataset.gcps = (corners, rasterio.crs.CRS.from_epsg(4326))
    with pytest.raises(UnplacedError, match="control points"):
        read_georeference(tmp_path / "gcp.tif")


def test_a_map_over_the_antimeridian_lies_in_one_piece(tmp_path: Path) -> None:
    to_fiji = Transformer.from_crs("EPSG:4326", "EPSG:32760", always_xy=True)
    east, north = to_fiji.transform(179.9999, -17.0)
    path = write(tmp_path / "a.tif", picture(), rasterio.Affine(1, 0, east, 0, -1, north), "EPSG:32760")
    found = read_georeference(path)
    assert isinstance(found, Georeference)
    assert found.longitude < -179
    assert Mosaic(found, 32760).outline().area == pytest.approx(2400)
