import pytest
from pydantic import ValidationError

from transect.serving.detection.params import DetectQuery, detect_options
from transect.serving.http.problems import ProblemError
from transect.settings import load_settings

NAMES = ("zebra", "oryx, adult", "kudu")


def test_an_empty_query_leaves_all_to_settings_and_package() -> None:
    options = detect_options(DetectQuery(), load_settings({}, None), NAMES)
    assert (options.conf, options.iou, options.classes, options.tile, options.overlap) == (
        None,
        None,
        None,
        "auto",
        None,
    )


def test_a_query_wins_over_the_settings() -> None:
    settings = load_settings({"TRANSECT_CONF": "0.5", "TRANSECT_TILE": "320", "TRANSECT_IOU": "0.6"}, None)
    assert detect_options(DetectQuery(), settings, NAMES).tile == 320
    options = detect_options(DetectQuery(conf=0.0, tile="off"), settings, NAMES)
    assert (options.conf, options.tile, options.iou) == (0.0, "off", 0.6)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("zebra,kudu",), {"zebra", "kudu"}),
        (("zebra", " kudu "), {"zebra", "kudu"}),
        (("oryx, adult",), {"oryx, adult"}),
        (("",), None),
    ],
)
def test_classes_come_by_comma_or_repeated(given: tuple[str, ...], meant: set[str] | None) -> None:
    options = detect_options(DetectQuery(classes=given), load_settings({}, None), NAMES)
    assert options.classes == meant


def test_an_unknown_class_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ProblemError, match="'gnu'; its classes are zebra") as refused:
        detect_options(DetectQuery(classes=("zebra,gnu",)), load_settings({}, None), NAMES)
    assert refused.value.status == 422


@pytest.mark.parametrize("tile", ["Auto", "0", "-1", "640px", "9" * 5000, "٦٤٠"])
def test_a_tile_that_cannot_be_meant_is_refused(tile: str) -> None:
    with pytest.raises(ValidationError):
        DetectQuery(tile=tile)


@pytest.mark.parametrize("conf", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_score_outside_its_range_is_refused(conf: float) -> None:
    with pytest.raises(ValidationError):
        DetectQuery(conf=conf)
