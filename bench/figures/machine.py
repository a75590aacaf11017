"""The machine and the versions that a run was measured with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

from bench.setup import dovecot_config

PACKAGES = ("twisted", "pyopenssl", "cryptography", "attrs", "zope.interface")


def machine() -> dict[str, str]:
    """Processor, memory, system."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    octets = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{octets / 2**30:.0f} GiB",
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Of all programs that take part."""
    try:
        dovecot = dovecot_config.version()
    except OSError:
        dovecot = "none"
    return {
        "Dovecot": dovecot,
        "Python": platform.python_version(),
        "OpenSSL": backend.openssl_version_text(),
        **{name: metadata.version(name) for name in PACKAGES},
    }
