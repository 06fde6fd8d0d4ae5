"""`transect synth`: sample surveys and training sets with known truth."""

from pathlib import Path
from typing import Annotated

import typer

from transect.wording import count_of

app = typer.Typer(help="Make sample surveys and training sets with known truth.", no_args_is_help=True)


@app.command()
def survey(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    frames: Annotated[int, typer.Option(min=2, help="How many frames a pass has.")] = 96,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    overlap: Annotated[float, typer.Option(help="Share of a frame that the next one shows again, 0 to 0.9.")] = 0.25,
    side_overlap: Annotated[
        float | None,
        typer.Option(help="Share of a frame that the next line shows again, 0 to 0.9; without it lines are a sample."),
    ] = None,
    transects: Annotated[int | None, typer.Option(help="How many lines; by default as many as suit.")] = None,
    passes: Annotated[int, typer.Option(help="How often all lines are flown.")] = 1,
    break_s: Annotated[float, typer.Option("--break", help="Seconds between two passes.")] = 1200.0,
    height: Annotated[float, typer.Option(help="Metres above ground, 20 to 200.")] = 64.0,
    speed: Annotated[float, typer.Option(help="The aircraft's, metres a second.")] = 12.0,
    animal_speed: Annotated[float, typer.Option(help="The fastest animal's, metres a second; 0: all stand.")] = 0.0,
    gps_noise: Annotated[float, typer.Option(help="Standard deviation of recorded positions, metres.")] = 0.5,
    yaw_noise: Annotated[float, typer.Option(help="Standard deviation of recorded headings, degrees.")] = 0.7,
    height_noise: Annotated[float, typer.Option(help="Standard deviation of recorded heights, metres.")] = 0.3,
) -> None:
    """Photograph a landscape with animals at known positions: frames, survey.yaml, truth.geojson."""
    from transect.synth import PositionNoise, make_survey

    truth = make_survey(
        out,
        frames=frames,
        seed=seed,
        overlap=overlap,
        height_m=height,
        transects=transects,
        noise=PositionNoise(gps_noise, yaw_noise, height_noise),
        side_overlap=side_overlap,
        passes=passes,
        break_s=break_s,
        speed_m_s=speed,
        animal_speed_m_s=animal_speed,
    )
    print(f"{count_of(truth.frames, 'frame')} in {out}")
    for species, count in truth.photographed.items():
        print(f"  {species}: {count} photographed of {truth.population[species]} in the area")


@app.command()
def dataset(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = 240,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = 48,
    test: Annotated[int, typer.Option(min=1, help="Test images.")] = 72,
    tile: Annotated[int, typer.Option(min=64, help="Side of an image in pixels.")] = 640,
    background: Annotated[int, typer.Option(min=0, help="Pictures of empty ground, in images/background.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    wide: Annotated[
        bool, typer.Option("--wide", help="Any ground, light, season, height and animal: for starter weights.")
    ] = False,
) -> None:
    """Make a YOLO training set (train, val and test on disjoint ground) in Ultralytics' format."""
    from transect.synth import make_dataset

    path = make_dataset(
        out,
        seed=seed,
        train=train,
        val=val,
        test=test,
        tile=tile,
        domain="wide" if wide else "survey",
        background=background,
    )
    print(path)
