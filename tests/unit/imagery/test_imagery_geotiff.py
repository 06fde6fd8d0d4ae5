"""Files of strangers: GDAL reads a GeoTIFF as itself, and nothing that it or a file beside it names."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

from transect.census.ground.orthomosaic import Georeference, read_georeference
from transect.census.ground.placement.elevation import sample_terrain
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.survey import HeightSpec
from transect.errors import ImageError, SurveyError
from transect.imagery import open_raster
from transect.imagery.tiff.geotiff import RefersElsewhereError, geotiff

DEM = HeightSpec(source="dem", dem="dem.tif")
HERE = np.array([33.0]), np.array([-0.5])
_SIDE = 600


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port of this machine that answers nothing; GDAL gives it up after a second."""
    for name in ("GDAL_HTTP_TIMEOUT", "GDAL_HTTP_CONNECTTIMEOUT"):
        monkeypatch.setenv(name, "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def asked(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def write(path: Path, value: int = 7, **tags: str) -> Path:
    """A map of one value, with tags of GDAL's own about its overviews."""
    shape = {"width": _SIDE, "height": _SIDE, "count": 1, "dtype": "uint8", "tiled": True}
    place = {"crs": "EPSG:32736", "transform": rasterio.Affine(30, 0, 500_000, 0, -30, 9_950_000)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as target:
        target.write(np.full((1, _SIDE, _SIDE), value, np.uint8))
        if tags:
            target.update_tags(ns="OVERVIEWS", **tags)
    return path


def raw_vrt(path: Path, source: Path) -> Path:
    """A VRT that shows the bytes of any file as pixels."""
    path.write_text(
        '<VRTDataset rasterXSize="300" rasterYSize="300"><SRS>EPSG:32736</SRS>'
        "<GeoTransform>500000, 30, 0, 9950000, 0, -30</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f"<SourceFilename>{source}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
        "<LineOffset>300</LineOffset></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    return path


def small(dataset: rasterio.io.DatasetReader) -> int:
    """The middle of a map as it is read at reduced resolution."""
    return int(dataset.read(1, out_shape=(100, 100))[50, 50])


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "private.txt"
    path.write_text("P" * 90_000)
    return path


def test_a_vrt_is_no_geotiff_whatever_its_name(tmp_path: Path, private: Path) -> None:
    path = raw_vrt(tmp_path / "dem.tif", private)
    with rasterio.open(path) as dataset:
        assert dataset.read(1)[150, 150] == ord("P")
    with pytest.raises(SurveyError, match=r"dem\.tif cannot be read as an elevation model; give a GeoTIFF"):
        sample_terrain(path, *HERE, DEM)
    assert read_georeference(path) is None
    with pytest.raises(ImageError):
        open_raster(path, max_pixels=None)
    with pytest.raises(RasterioIOError), geotiff(path):
        pass


def test_a_vrt_asks_no_address(tmp_path: Path, listener: socket.socket) -> None:
    address = f"/vsicurl/http://127.0.0.1:{listener.getsockname()[1]}/latest/meta-data"
    path = raw_vrt(tmp_path / "dem.tif", Path(address))
    path.write_text(path.read_text().replace("http:/127", "http://127"))
    with pytest.raises(SurveyError):
        sample_terrain(path, *HERE, DEM)
    assert not asked(listener)


def test_a_geotiff_that_names_another_file_for_its_overviews_is_refused(tmp_path: Path, private: Path) -> None:
    path = write(tmp_path / "dem.tif", OVERVIEW_FILE=str(raw_vrt(tmp_path / "x.vrt", private)))
    with rasterio.open(path, driver="GTiff") as dataset:
        assert small(dataset) == ord("P")
    with pytest.raises(RefersElsewhereError), geotiff(path):
        pass
    with pytest.raises(SurveyError, match=r"dem\.tif names another file to be read in its place; export it anew"):
        sample_terrain(path, *HERE, DEM)
    with pytest.raises(UnplacedError, match=r"^no position: it names another file to be read in its place"):
        read_georeference(path)
    with pytest.raises(ImageError, match=r"a\.tif names another file to be read in its place"):
        open_raster(path, name="a.tif", max_pixels=None, whole_below=0)
    with pytest.raises(ImageError, match=r"a\.tif names another file to be read in its place"):
        open_raster(path.read_bytes(), name="a.tif", max_pixels=None, whole_below=0)


def test_a_geotiff_that_names_an_address_makes_no_request(tmp_path: Path, listener: socket.socket) -> None:
    address = f"/vsicurl/http://127.0.0.1:{listener.getsockname()[1]}/x.tif"
    path = write(tmp_path / "map.tif", OVERVIEW_FILE=address)
    with pytest.raises(UnplacedError, match=r"^no position: it names another file to be read in its place"):
        read_georeference(path)
    assert not asked(listener)
    with rasterio.open(path, driver="GTiff") as dataset:
        small(dataset)
    assert asked(listener)


def test_the_network_is_shut_a_second_time(tmp_path: Path, listener: socket.socket) -> None:
    from transect.imagery.tiff.geotiff import GDAL_OPTIONS

    address = f"/vsicurl/http://127.0.0.1:{listener.getsockname()[1]}/y.tif"
    path = write(tmp_path / "map.tif", OVERVIEW_FILE=address)
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path, driver="GTiff") as dataset:
        small(dataset)
    assert not asked(listener)


def test_files_beside_a_map_are_not_read(tmp_path: Path, private: Path) -> None:
    path = write(tmp_path / "map.tif")
    alone = read_georeference(path)
    assert isinstance(alone, Georeference)
    vrt = raw_vrt(tmp_path / "x.vrt", private)
    (tmp_path / "map.tif.aux.xml").write_text(
        "<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>"
        f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{vrt}</MDI></Metadata></PAMDataset>'
    )
    (tmp_path / "map.tif.ovr").write_bytes(vrt.read_bytes())
    with rasterio.open(path, driver="GTiff") as dataset:
        assert dataset.transform.a == 1
        assert small(dataset) == ord("P")
    assert read_georeference(path) == alone
    with geotiff(path) as dataset:
        assert small(dataset) == 7


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.tif.msk", "anything"),
        ("map.tfw", "30\n0\n0\n-30\n500000\n9950000\n"),
        ("map.tif.aux.xml", "<PAMDataset><SRS>EPSG:32736</SRS></PAMDataset>"),
    ],
)
def test_values_of_a_sidecar_alone_are_reported_in_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / "map.tif")
    if not name.endswith(".msk"):
        with rasterio.open(path, "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8") as plain:
            plain.write(np.ones((1, 9, 9), np.uint8))
    (tmp_path / name).write_text(text)
    with pytest.raises(UnplacedError, match=re.escape(f"it does not say itself what {name} says of it")):
        read_georeference(path)
    with pytest.raises(SurveyError, match=r"does not say itself what map\.t"):
        sample_terrain(path, *HERE, DEM)


def test_statistics_beside_a_map_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif")
    alone = read_georeference(path)
    (tmp_path / "map.tif.aux.xml").write_text(
        "<PAMDataset><Metadata><MDI key='STATISTICS_MEAN'>7</MDI></Metadata></PAMDataset>"
    )
    assert read_georeference(path) == alone


def test_every_reader_of_gdal_goes_through_one_door() -> None:
    services = Path(__file__).parents[3] / "services"
    opening = {
        path.name
        for path in services.rglob("*.py")
        if any(call in path.read_text(encoding="utf-8") for call in ("rasterio.open(", "MemoryFile(", "pyogrio.read"))
    }
    assert opening == {"geotiff.py"}
