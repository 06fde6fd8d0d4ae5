"""A sample survey before its pictures are rendered: the design, the flight, the land and its animals."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from transect.errors import InputError
from transect.synth.animals.motion import Tracks, animals_at
from transect.synth.animals.population import draw_population
from transect.synth.animals.species import SPECIES
from transect.synth.camera.flight import BREAK_S, SPEED_M_S, Camera, Flight, PositionNoise, Route, Shot, plan_flight
from transect.synth.drawing.view import View
from transect.synth.land.biomes import draw_biome
from transect.synth.savanna import GSD, survey_cover, survey_dusk, survey_ground, survey_light
from transect.synth.scene import Scene
from transect.wording import count_of

_NAMES = tuple(kind.name for kind in SPECIES)
# Side in pixels of the picture that a biome is drawn for: its rocks and dead wood are then some tens in each.
_BIOME_PX = 320


@dataclass(frozen=True, kw_only=True)
class SurveyDesign:
    """The parameters of a sample survey; the same parameters give the same survey.

    frames: photos of one pass, 2 or more. overlap: share of a frame that its follower shows again, 0 to 0.9.
    height_m: above ground, 20 to 200; the default gives 5 cm a pixel. transects: lines, by default as many as suit
    the frames. noise: errors of the recorded positions. side_overlap: share of a frame that the next line shows
    again, 0 to 0.9, and the whole stratum is photographed; by default lines are 375 m apart, a sample. passes: how
    often all lines are flown, with `break_s` seconds between. speed_m_s: the aircraft's, 1 to 100.
    animal_speed_m_s: that of the fastest animal, 0 to 20; at 0 all stand. density: animals a km2 over the usual
    number, 0 to 5. absent: name of a species of which there is none. biome: "other" is land of any kind of
    the domain "wide" in place of the savanna, drawn by `land_seed`, by default the seed: surveys that share it have one
    kind of land. light: "dusk" is a low sun.
    Raises InputError for a parameter out of its range.
    """

    frames: int = 96
    seed: int = 0
    overlap: float = 0.25
    height_m: float = 64.0
    transects: int | None = None
    noise: PositionNoise = field(default_factory=PositionNoise)
    side_overlap: float | None = None
    passes: int = 1
    break_s: float = BREAK_S
    speed_m_s: float = SPEED_M_S
    animal_speed_m_s: float = 0.0
    density: float = 1.0
    absent: str = ""
    biome: Literal["savanna", "other"] = "savanna"
    light: Literal["day", "dusk"] = "day"
    land_seed: int | None = None

    def __post_init__(self) -> None:
        noise = self.noise
        checks = (
            (self.frames >= 2, "at least 2 frames"),
            (self.seed >= 0, "a seed from 0 on"),
            (self.land_seed is None or self.land_seed >= 0, "a seed of its land from 0 on"),
            (0 <= self.overlap <= 0.9, "an overlap of 0 to 0.9"),
            (self.side_overlap is None or 0 <= self.side_overlap <= 0.9, "a side overlap of 0 to 0.9"),
            (20 <= self.height_m <= 200, "a height of 20 to 200 m"),
            (1 <= self.passes <= 20, "1 to 20 passes"),
            (0 <= self.break_s <= 86_400, "a break of 0 to 86400 s"),
            (1 <= self.speed_m_s <= 100, "an aircraft's speed of 1 to 100 m/s"),
            (0 <= self.animal_speed_m_s <= 20, "an animals' speed of 0 to 20 m/s"),
            (0 <= self.density <= 5, "a density of 0 to 5"),
            (self.absent in ("", *_NAMES), f"an absent species of {', '.join(_NAMES)}"),
            (self.biome in ("savanna", "other"), "a biome of savanna or other"),
            (self.light in ("day", "dusk"), "a light of day or dusk"),
            (
                all(0 <= error < math.inf for error in (noise.gps_m, noise.yaw_deg, noise.height_m)),
                "noise from 0 on",
            ),
        )
        missing = [wanted for kept, wanted in checks if not kept]
        if missing:
            raise InputError(f"A sample survey needs {' and '.join(missing)}.")
        if self.transects is not None and not 1 <= self.transects <= self.frames:
            raise InputError(
                f"{count_of(self.frames, 'frame')} cannot make {count_of(self.transects, 'transect')}; ask for 1 to "
                f"{self.frames}."
            )

    def parameters(self) -> dict[str, Any]:
        """The content of synth.json. Parameters newer than the first surveys are included only where they are used."""
        flown = ("side_overlap", "passes", "break_s", "speed_m_s", "animal_speed_m_s")
        names = (*flown, "density", "absent", "biome", "light", "land_seed")
        later = {name: value for name in names if (value := getattr(self, name)) != getattr(SurveyDesign, name)}
        return {
            "kind": "survey",
            "frames": self.frames,
            "seed": self.seed,
            "overlap": self.overlap,
            "height_m": self.height_m,
            "transects": self.transects,
            "gps_noise_m": self.noise.gps_m,
            "yaw_noise_deg": self.noise.yaw_deg,
            "height_noise_m": self.noise.height_m,
            **later,
        }

    def route(self) -> Route:
        """The route of its lines."""
        return Route(
            height_m=self.height_m,
            overlap=self.overlap,
            side_overlap=self.side_overlap,
            transects=self.transects,
            speed_m_s=self.speed_m_s,
            passes=self.passes,
            break_s=self.break_s,
        )


@dataclass(frozen=True)
class SurveyPlan:
    """A survey before its pictures are rendered."""

    design: SurveyDesign
    flight: Flight
    scene: Scene
    """At second 0, when the first photo is taken."""
    tracks: Tracks

    def seconds(self, shot: Shot) -> float:
        """The time of a photo, in seconds after the first one."""
        return (shot.taken_at - self.flight.shots[0].taken_at).total_seconds()

    def scene_of(self, shot: Shot) -> Scene:
        """The land with the animals, in their order, at their positions at the time of a photo."""
        return replace(self.scene, animals=animals_at(self.scene.animals, self.tracks, self.seconds(shot)))


def plan_survey(design: SurveyDesign) -> SurveyPlan:
    """The flight, the land and its animals."""
    seed = design.seed
    flight = plan_flight(design.frames, seed, design.route(), camera=Camera(), noise=design.noise)
    shares = [0.0 if name == design.absent else design.density for name in _NAMES]
    animals = draw_population(flight.width_m, flight.height_m, seed, speed_m_s=design.animal_speed_m_s, shares=shares)
    world = int(np.random.SeedSequence((seed, 40)).generate_state(1)[0])
    light = (survey_dusk if design.light == "dusk" else survey_light)(np.random.default_rng((seed, 43)))
    ground, cover = survey_ground(), survey_cover()
    if design.biome == "other":
        view = View(x=0.0, y=0.0, gsd=GSD, yaw_deg=0.0, width=_BIOME_PX, height=_BIOME_PX)
        land = seed if design.land_seed is None else design.land_seed
        ground, cover = draw_biome(np.random.default_rng((land, 47)), view)
    scene = Scene(world, ground, cover, light, animals)
    return SurveyPlan(design, flight, scene, Tracks.of(animals, flight.width_m, flight.height_m))
