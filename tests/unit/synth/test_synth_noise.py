import numpy as np
import pytest

from transect.synth.drawing.noise import Kind, field, sample, smoothstep, texel_for
from transect.synth.drawing.view import View

KINDS: tuple[Kind, ...] = ("cloud", "mottle", "grain", "fleck")


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_standardised_and_tile(kind: Kind) -> None:
    values = field(kind)
    assert abs(float(values.mean())) < 0.05
    assert 0.8 < float(values.std()) < 1.05
    seam = np.abs(values[0] - values[-1]).mean()
    inside = np.abs(values[500] - values[501]).mean()
    assert seam < 2 * inside


def test_overlapping_views_show_the_same_texture() -> None:
    view = View(x=1234.5, y=-987.6, gsd=0.05, yaw_deg=37.0, width=120, height=100)
    whole = sample("mottle", view.matrix(), (100, 120), 0.2, 7)
    part = sample("mottle", view.part(40, 30, 50, 40).matrix(), (40, 50), 0.2, 7)
    assert np.abs(whole[30:70, 40:90] - part).max() < 0.15
    assert np.corrcoef(whole[30:70, 40:90].ravel(), part.ravel())[0, 1] > 0.999


def test_another_offset_is_another_texture() -> None:
    view = View(x=0, y=0, gsd=0.05, yaw_deg=0.0, width=80, height=80)
    first, second = (sample("grain", view.matrix(), (80, 80), 0.05, offset) for offset in (1, 2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3


def test_a_coarse_picture_is_not_aliased() -> None:
    """Seen from far away, fine texture averages out."""
    near, far = (
        sample("grain", View(x=0, y=0, gsd=gsd, yaw_deg=0.0, width=100, height=100).matrix(), (100, 100), 0.05, 1)
        for gsd in (0.05, 0.8)
    )
    assert far.std() < 0.5 * near.std()


def test_texels_grow_in_steps_of_two() -> None:
    assert texel_for(0.05, 0.08) == 0.08
    assert texel_for(0.05, 0.02) == pytest.approx(0.08)
    assert texel_for(0.079, 0.02) == texel_for(0.041, 0.02)


def test_smoothstep_rises_between_its_ends() -> None:
    out = smoothstep(1.0, 3.0, np.array([0, 1, 2, 3, 4], np.float32))
    assert out.tolist() == [0, 0, 0.5, 1, 1]
