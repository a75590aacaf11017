"""The settings of retention and of the audit log: ``[retention]``, ``[audit]``."""

from __future__ import annotations

from attrs import field, frozen

from gateway.config import checks as check


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


@frozen
class Audit:
    """``[audit]``: the audit log, which has one line per removed message."""

    path: str = "audit.log"
    max_size: str = field(default="100 MB", **check.SOME_SIZE)
    keep: int = field(default=10, **check.within(1, 10_000))
