"""The command line: parse arguments, call one package, print the result.

Packages are imported inside the commands, so that `transect --help` is fast and the detector image,
which has no torch, can run every command that does not need it.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from transect import __version__
from transect.api import open_detector
from transect.cli.census.commands import app as census_app
from transect.cli.defaults import sample_training_set
from transect.cli.models import app as models_app
from transect.cli.review.commands import app as review_app
from transect.cli.runs.history import app as runs_app
from transect.cli.runs.transfer import export, import_
from transect.cli.sweep import sweep
from transect.cli.synth import app as synth_app
from transect.cli.ui import ui
from transect.cli.webhook import app as webhook_app
from transect.errors import InputError, TransectError
from transect.settings import load_settings


class _Commands(TyperGroup):
    """All commands: Ctrl-C ends each with a message, where Typer would print none."""

    # Any: the base names a class that Typer does not export.
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("transect: interrupted.", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from None


app = typer.Typer(
    name="transect",
    cls=_Commands,
    help="Train wildlife detectors, track every run, serve the best one, count animals with honest error bars.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_app, name="models")
app.add_typer(runs_app, name="runs")
app.add_typer(census_app, name="census")
app.add_typer(review_app, name="review")
app.add_typer(synth_app, name="synth")
app.add_typer(webhook_app, name="webhook")
app.command()(sweep)
app.command()(ui)
app.command()(export)
app.command("import")(import_)


def main() -> None:
    """Run the command; a TransectError becomes one sentence and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except TransectError as error:
        # One line, even if parts contain line breaks: users read it, scripts grep it.
        print(f"transect: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe, such as epochs=5 lr0=0.002."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Ultralytics detection architecture by name (yolov8n, yolo11n, yolo26n ...), .yaml or .pt. "
            "Default: the recipe's, else yolo11n."
        ),
    ] = None,
    config: Annotated[Path, typer.Option(help="Training recipe.")] = Path("configs/train/wildlife.yaml"),
    data: Annotated[
        Path | None,
        typer.Option(help="Ultralytics data.yaml. Default: the sample survey's training set, made when missing."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the newest interrupted run of this recipe and model.")
    ] = False,
    new_run: Annotated[
        bool, typer.Option("--new-run", help="Resume in a new run, with the old one as its parent.")
    ] = False,
) -> None:
    """Train, track, evaluate, package and register; the new version gets the alias `candidate`."""
    from transect.training import TrainRequest
    from transect.training import train as run_training

    settings = load_settings()
    request = TrainRequest(
        model=model,
        config=config,
        data=data,
        overrides=tuple(overrides or ()),
        default_data=lambda: sample_training_set(settings),
        resume=resume,
        new_run=new_run,
    )
    outcome = run_training(request, settings)
    print(f"Registered {outcome.name} version {outcome.version} (run {outcome.run_id}) with alias candidate.")
    for name, value in sorted(outcome.metrics.items()):
        print(f"  {name:<12} {value:.4f}")
    for sentence in outcome.variants:
        print(f"  {sentence}")
    print("Next: `make promote` (or `transect models promote`).")


@app.command()
def detect(
    images: Annotated[list[Path], typer.Argument(help="Images, and folders of images at any depth.")],
    model: Annotated[
        str,
        typer.Option(help="A package folder, or a version such as models:/detector@production or models:/detector/3."),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for drawn copies; subfolders are kept.")] = None,
    conf: Annotated[float | None, typer.Option(min=0, max=1, help="Least score.")] = None,
    tile: Annotated[str, typer.Option(help="auto, off, or a tile side in pixels.")] = "",
) -> None:
    """Detect animals in images: one JSON line an image; a file that cannot be read is a listed failure."""
    from transect.cli.detecting import detect_files, find_images
    from transect.engine import DetectOptions

    settings = load_settings({**os.environ, **({"TRANSECT_TILE": tile} if tile else {})})
    found = find_images(images)
    detector = open_detector(model, settings)
    options = DetectOptions(
        conf=settings.conf if conf is None else conf,
        iou=settings.iou,
        tile=settings.tile,
        overlap=settings.tile_overlap,
    )
    failed = 0
    for line in detect_files(detector, found, options, out=out, max_pixels=settings.max_pixels):
        failed += line.failed
        print(line.text, flush=True)
    if failed:
        raise InputError(f"{failed} of {len(found.images)} images could not be read; each is listed with its reason.")


@app.command()
def serve() -> None:
    """Serve the model behind TRANSECT_MODEL_ALIAS over HTTP and follow the alias."""
    from transect.serving import serve as run_service

    run_service(load_settings())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    frames: Annotated[int, typer.Option(min=4, help="Frames of the sample survey.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed of the sample survey.")] = 7,
) -> None:
    """The whole job on a sample survey: train, promote, serve, count, report."""
    from transect.demo import run_demo

    run_demo(out, frames=frames, seed=seed)


@app.command()
def settings(
    env: Annotated[bool, typer.Option("--env", help="Print .env.example.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/environment.md.")] = False,
) -> None:
    """Show every environment variable, its default and why one would change it."""
    from transect.settings import as_env_example, as_markdown, variables

    if env:
        print(as_env_example(), end="")
    elif markdown:
        print(as_markdown(), end="")
    else:
        table = Table("variable", "default", "what it does")
        for variable in variables():
            table.add_row(variable.name, variable.default, variable.help)
        Console().print(table)
