import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.synth.camera.geo import LocalFrame

places = st.builds(LocalFrame, latitude=st.floats(-75, 75), longitude=st.floats(-179, 179))


@given(places, st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_agrees_with_proj(place: LocalFrame, east: float, north: float) -> None:
    longitude, latitude = place.to_lonlat(east, north)
    azimuth, _, distance = pyproj.Geod(ellps="WGS84").inv(place.longitude, place.latitude, longitude, latitude)
    assert distance == pytest.approx((east**2 + north**2) ** 0.5, abs=1e-3)
    if distance > 1:
        plane = pyproj.Proj(proj="aeqd", lat_0=place.latitude, lon_0=place.longitude, ellps="WGS84")
        assert plane(longitude, latitude) == pytest.approx((east, north), abs=2e-3), azimuth


def test_the_origin_is_itself() -> None:
    assert LocalFrame(-1.5, 35.1).to_lonlat(0, 0) == pytest.approx((35.1, -1.5), abs=1e-12)
