"""``/metrics``: figures in the formats of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.observe.families import FAMILIES, Family
from gateway.observe.figures import Snapshot

Rows = Iterable[tuple[list[str], Any]]
"""Values of labels, and the value of a family with them."""


def exposition(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """The figures as a scrape gets them, and their content type.

    ``accept``: the header of the request; Prometheus asks for OpenMetrics where it can.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Snapshot(Collector):
    """Hands a snapshot to prometheus-client."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._rows: dict[str, list[tuple[list[str], Any]]] = {}
        for (name, *labels), value in snapshot:
            self._rows.setdefault(name, []).append((labels, value))

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry has no other collector."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Each family with a value; a counter without labels has one from the start."""
        for name, family in FAMILIES.items():
            rows = sorted(self._rows.get(name, ()))
            if not rows and family.kind != "gauge" and not family.labels:
                rows = [([], [0] * (len(family.buckets) + 2) if family.buckets else 0)]
            if rows:
                yield _metric(family, rows)


def _metric(family: Family, rows: Rows) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, (*counts, total) in rows:
            bounds = map(floatToGoString, (*family.buckets, inf))
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in rows:
        metric.add_metric(labels, value)
    return metric
