"""TRANSECT_DETECTOR_PEERS: hosts with ports."""

import pytest

from transect.errors import SettingsError
from transect.settings import load_settings


def test_names_and_addresses_with_ports_are_read() -> None:
    settings = load_settings({"TRANSECT_DETECTOR_PEERS": "detector:8000, 10.0.0.7:81 ,[fd00::7]:8000,"}, None)
    assert settings.peer_addresses == (("detector", 8000), ("10.0.0.7", 81), ("fd00::7", 8000))
    assert load_settings({}, None).peer_addresses == ()


@pytest.mark.parametrize(
    "peers",
    ["detector", "detector:", ":8000", "detector:0", "detector:65536", "detector:http", "http://detector:8000",
     "detector:8000/v1", "fd00::7", "[detector]:8000", "a b:1", "detector:٨٠"],
)  # fmt: skip
def test_other_text_is_refused_with_the_form(peers: str) -> None:
    with pytest.raises(SettingsError, match=r"TRANSECT_DETECTOR_PEERS=.* is no HOST:PORT, such as detector:8000"):
        load_settings({"TRANSECT_DETECTOR_PEERS": peers}, None)
