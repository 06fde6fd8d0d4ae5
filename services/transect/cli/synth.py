"""`transect synth`: sample surveys and training sets with known truth."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make sample surveys and training sets with known truth.", no_args_is_help=True)


@app.command()
def survey(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    frames: Annotated[int, typer.Option(min=2, help="How many frames.")] = 96,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Photograph a landscape with animals at known positions: frames, survey.yaml, truth.geojson."""
    from transect.synth import make_survey

    truth = make_survey(out, frames=frames, seed=seed)
    print(f"{truth.frames} frames in {out}")
    for species, count in truth.photographed.items():
        print(f"  {species}: {count} photographed of {truth.population[species]} in the area")


@app.command()
def dataset(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = 240,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = 48,
    test: Annotated[int, typer.Option(min=1, help="Test images.")] = 72,
    tile: Annotated[int, typer.Option(min=64, help="Side of an image in pixels.")] = 640,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    wide: Annotated[
        bool, typer.Option("--wide", help="Any ground, light, season, height and animal: for starter weights.")
    ] = False,
) -> None:
    """Make a YOLO training set (train, val and test on disjoint ground) in Ultralytics' format."""
    from transect.synth import make_dataset

    path = make_dataset(out, seed=seed, train=train, val=val, test=test, tile=tile, domain="wide" if wide else "survey")
    print(path)
