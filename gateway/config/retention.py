"""The settings of retention and of the audit log: ``[retention]``, ``[audit]``."""

from __future__ import annotations

from attrs import field, frozen

from gateway.config import checks as check
from gateway.endpoints import shown
from gateway.model import UNLIMITED
from gateway.units import parse_size


@frozen
class DomainRetention:
    """``[retention.domains."NAME"]``: the policy of the mailboxes of a domain."""

    policy: str = field(default="", **check.POLICY)


@frozen
class Retention:
    """``[retention]``: policy of mailboxes without one in the directory, and the job's pace."""

    enabled: bool = False
    policy: str = field(default="", **check.POLICY)
    check_every: float = field(default=3600.0, **check.POSITIVE)
    batch: int = field(default=50, **check.within(1, 10_000))
    rate: float = field(default=50.0, **check.POSITIVE)
    pause_above_queue: int = field(default=8, **check.within(0, 2**31 - 1))
    max_removal_share: float = field(default=0.5, **check.within(0, 1))
    max_removal_least: int = field(default=100, **check.within(0, 2**31 - 1))
    hidden_counts: bool = False
    domains: dict[str, DomainRetention] = field(factory=dict, **check.DOMAINS)


LEAST_AUDIT = 64 * 1024
"""Octets of an audit log before another begins, at least: about 200 lines.

With a size of one octet each line would go after ``keep`` others.
"""


def _check_audit_size(value: str) -> None:
    if 0 < parse_size(value) < LEAST_AUDIT:
        raise ValueError(f"expected 64K or more, or 0 for no limit, found {shown(value)}")


@frozen
class Audit:
    """``[audit]``: the audit log, which has one line per removed message."""

    path: str = "audit.log"
    max_size: str = field(default="100 MB", **check.checked(_check_audit_size))
    keep: int = field(default=10, **check.within(1, 10_000))

    @property
    def max_octets(self) -> int:
        """``max_size``; without a limit ``UNLIMITED``."""
        return parse_size(self.max_size) or UNLIMITED
