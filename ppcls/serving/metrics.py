"""Figures for Prometheus; of one process, or summed over the workers.

With several workers the environment variable that prometheus_client looks for (:data:`SHARED_FOLDER`) names a folder
that all of them write to, and any of them answers for all.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """All figures of one application; each application has a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "reid_requests",
            "Requests answered; error: errorCode or err_no of the answer",
            ["route", "status", "error"],
            registry=registry,
        )
        self.seconds = Histogram(
            "reid_request_seconds",
            "From the request's head to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.images = Counter("reid_images", "Images embedded", registry=registry)
        self.rejected = Counter("reid_rejected", "Requests turned away", ["reason"], registry=registry)
        self.batch_images = Histogram("reid_batch_images", "Images run together", buckets=_IMAGES, registry=registry)
        self.inference = Histogram("reid_inference_seconds", "One batch", buckets=_SECONDS, registry=registry)
        self.queue = Gauge(
            "reid_queue_images", "Images accepted, not yet answered", multiprocess_mode="livesum", registry=registry
        )
        self.memory = Gauge(
            "reid_request_bytes", "Bodies and prepared images held", multiprocess_mode="livesum", registry=registry
        )
        self.model = Gauge(
            "reid_model_info",
            "1 for the model in use",
            ["name", "digest", "backend"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def observe_batch(self, images: int, seconds: float) -> None:
        """One batch went through the model."""
        self.batch_images.observe(images)
        self.inference.observe(seconds)

    def text(self) -> bytes:
        """The exposition format; reads files when there are several workers, so not for the event loop."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)
