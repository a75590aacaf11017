"""What has a value now, and no event: queues, certificates, retention, the process itself."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from functools import cache

from OpenSSL import SSL
from prometheus_client import ProcessCollector

import gateway
import twisted
from gateway.app.parts.certificates import Certificates
from gateway.app.parts.retention import RetentionService
from gateway.jobs.thread_pool import ThreadPool
from gateway.observe.figures import Key

Rows = Iterator[tuple[Key, float]]


def readings_of(
    pools: Iterable[ThreadPool], certificates: Certificates, retention: RetentionService | None
) -> Rows:
    """The readings of a process that serves clients."""
    yield from process()
    for pool in pools:
        yield ("pop3gw_pool_outstanding", pool.purpose), pool.outstanding
        yield ("pop3gw_pool_limit", pool.purpose), pool.most
        yield ("pop3gw_pool_rejected_total", pool.purpose), pool.rejected
    for path, expires in certificates.expiries():
        yield ("pop3gw_certificate_expiry_timestamp_seconds", path), expires
    job = None if retention is None else retention.retention_job
    if job is not None and job.is_leading:
        for name, value in job.readings(time.time()):
            yield (f"pop3gw_retention_{name}",), value


def workers(configured: int, serving: int) -> Rows:
    """How many processes serve clients."""
    yield ("pop3gw_workers", "configured"), configured
    yield ("pop3gw_workers", "serving"), serving


def process() -> Rows:
    """CPU, memory and file descriptors, and the versions of what runs."""
    yield _versions(), 1
    for metric in _collector().collect():
        for sample in metric.samples:
            yield (sample.name,), sample.value


@cache
def _collector() -> ProcessCollector:
    return ProcessCollector(registry=None)


@cache
def _versions() -> Key:
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split()[1]
    python = platform.python_version()
    return "pop3gw_build_info", gateway.__version__, python, twisted.__version__, openssl
