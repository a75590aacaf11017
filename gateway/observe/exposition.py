"""Figures as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.observe.families import FAMILIES, Family
from gateway.observe.figures import Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every Prometheus reads."""

Rows = Iterable[tuple[Sequence[str], Any]]
"""Values of labels, and the value of a family with them."""


def exposition(snapshot: Snapshot) -> bytes:
    """The figures as a scrape gets them, as ``CONTENT_TYPE`` says."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    return generate_latest(registry)


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
        """Each family with a value."""
        for name, family in FAMILIES.items():
            nothing = [0] * (len(family.buckets) + 2) if family.buckets else 0
            rows = {tuple(labels): nothing for labels in family.first}
            rows |= {tuple(labels): value for labels, value in self._rows.get(name, ())}
            if rows:
                yield _metric(family, sorted(rows.items()))


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
