"""Open the production model and search one photo: python examples/use_the_registry.py PHOTO

Which MLflow server or local store is asked, MLFLOW_TRACKING_URI and TRANSECT_HOME say.
"""

import sys
from pathlib import Path

import transect
from transect.imagery import open_raster


def main(photo: str) -> None:
    """Print the versions that are registered, and what the production version finds in `photo`."""
    registry = transect.load_registry()
    for row in registry.list_versions():
        print(f"version {row.version}: {', '.join(row.aliases) or 'no alias'}")
    with transect.open_model() as detector, open_raster(Path(photo), max_pixels=250_000_000) as image:
        result = detector.detect(image, name=photo)
    for found in result.detections:
        print(f"{found.class_name} {found.score:.2f} at {[round(edge) for edge in found.box]}")
    print(f"{len(result.detections)} animals by {result.model.name} version {result.model.version}")


if __name__ == "__main__":
    main(sys.argv[1])
