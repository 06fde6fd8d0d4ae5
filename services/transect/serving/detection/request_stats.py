"""Per-request statistics, for the metrics and the access log."""

from typing import Any

from transect.engine import ModelRef
from transect.serving.detection.image import DetectionOutput
from transect.serving.metrics import Metrics


class RequestStats:
    """Counts the images of one request."""

    def __init__(self, metrics: Metrics, log: dict[str, Any]) -> None:
        self._metrics = metrics
        self._log = log
        self._longest: dict[str, float] = {}
        self.images = self.failed = self.tiles = self.detections = 0

    def set_model(self, ref: ModelRef) -> None:
        """Log the model of the request."""
        self._log.update(model=ref.name, version=ref.version, precision=ref.precision)

    def add(self, outcome: DetectionOutput | BaseException) -> None:
        """Count one finished or failed image."""
        self.images += 1
        if isinstance(outcome, DetectionOutput):
            self._add(outcome)
        else:
            self.failed += 1
            self._metrics.images.labels("failed").inc()
        self._log.update(images=self.images, failed=self.failed, tiles=self.tiles, detections=self.detections)

    def _add(self, done: DetectionOutput) -> None:
        metrics, result = self._metrics, done.result
        self.tiles += result.tiles
        self.detections += len(result.detections)
        metrics.images.labels("ok").inc()
        metrics.tiles.inc(result.tiles)
        for detection in result.detections:
            metrics.detections.labels(detection.class_name).inc()
        for stage, seconds in done.stages.items():
            metrics.stage_seconds.labels(stage).observe(seconds)
            self._longest[stage] = max(seconds, self._longest.get(stage, 0.0))
        # The log has the longest time of any image in each stage.
        self._log.update({f"{stage}_ms": round(seconds * 1000, 1) for stage, seconds in self._longest.items()})
