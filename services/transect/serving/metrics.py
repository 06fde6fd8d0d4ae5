"""Prometheus metrics, exposed at /metrics."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one service, in a collector registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "transect_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "transect_request_seconds",
            "From the first byte of a request to the last byte of its response.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "transect_stage_seconds",
            "Time of one image in a stage: queue (waiting for a worker and for decode memory), decode, "
            "infer and post (summed over its tiles), encode (JSON or the drawn image).",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = Counter("transect_images", "Images by outcome: ok, failed.", ("outcome",), registry=self.registry)
        self.tiles = Counter("transect_tiles", "Tiles inferred.", registry=self.registry)
        self.detections = Counter("transect_detections", "Objects found.", ("class_name",), registry=self.registry)
        self.queue_depth = Gauge(
            "transect_queue_depth", "Admitted requests waiting for a worker.", registry=self.registry
        )
        self.in_progress = Gauge("transect_requests_admitted", "Admitted requests.", registry=self.registry)
        self.unserved = Counter(
            "transect_requests_unserved",
            "Requests without a result: refused (no free slot), expired (deadline), cancelled (client disconnected).",
            ("reason",),
            registry=self.registry,
        )
        self.body_bytes = Gauge(
            "transect_body_bytes", "Bytes reserved for request bodies in memory.", registry=self.registry
        )
        self.decode_bytes = Gauge(
            "transect_decode_bytes", "Bytes reserved for decoding images.", registry=self.registry
        )
        self.swap_seconds = Histogram(
            "transect_model_swap_seconds",
            "From detecting an alias change to serving the new version.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.alias_lag = Gauge(
            "transect_alias_lag_seconds",
            "Time since the alias was last resolved (since the start, until it first is).",
            registry=self.registry,
        )
        self.swaps = Counter(
            "transect_model_swaps",
            "New versions by outcome: swapped, refused (failed verification), failed (could not be fetched).",
            ("outcome",),
            registry=self.registry,
        )
        self.polls = Counter(
            "transect_alias_polls", "Alias polls by outcome: ok, error.", ("outcome",), registry=self.registry
        )
        self.webhooks = Counter(
            "transect_webhooks",
            "MLflow webhooks by outcome: accepted, ignored (another model or alias), refused (invalid signature).",
            ("outcome",),
            registry=self.registry,
        )
        self.peers = Counter(
            "transect_webhook_peers",
            "Webhooks passed on to replicas by outcome: told, ignored (by itself, or about another alias), failed.",
            ("outcome",),
            registry=self.registry,
        )
        self.model_info = Gauge(
            "transect_model_info",
            "1 for the served model.",
            ("name", "version", "run_id", "backend", "precision"),
            registry=self.registry,
        )
        self._model_labels: tuple[str, ...] = ()
        self.gpu_wanted = Gauge(
            "transect_gpu_wanted",
            "1 if the service was built for a GPU and no other backend is configured.",
            registry=self.registry,
        )
        self.model_loaded = Gauge(
            "transect_model_loaded_timestamp_seconds", "When the served model was loaded.", registry=self.registry
        )
        # Create the label sets now, so that alerts can use them before the first event.
        for outcome in ("swapped", "refused", "failed"):
            self.swaps.labels(outcome)
        for reason in ("refused", "expired", "cancelled"):
            self.unserved.labels(reason)
        for outcome in ("ok", "error"):
            self.polls.labels(outcome)
        for outcome in ("accepted", "ignored", "refused"):
            self.webhooks.labels(outcome)
        for outcome in ("told", "ignored", "failed"):
            self.peers.labels(outcome)
        for outcome in ("ok", "failed"):
            self.images.labels(outcome)

    def set_model_info(
        self, *, name: str, version: str, run_id: str, backend: str, precision: str, loaded_at: datetime
    ) -> None:
        """Set the served model, backend and precision; the backend changes when a GPU is lost."""
        labels = (name, version, run_id, backend, precision)
        if labels != self._model_labels:
            self.model_info.clear()
            self.model_info.labels(*labels).set(1)
            self._model_labels = labels
        self.model_loaded.set(loaded_at.timestamp())
