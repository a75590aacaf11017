"""The EXPIRE capability of retention policies (RFC 2449 section 6.7).

EXPIRE promises the minimum number of days that a message stays.  So it is rounded
down, and the rule counts that may remove a message first.  ``newest`` and ``size`` may
remove messages of any age; no rule removes a message below the floor.  For POP3 a
hidden message is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.retention.rules import Policy

_DAY = 86_400


def days_kept(policy: Policy) -> int | None:
    """The minimum number of whole days that a message stays; None: it is never removed.

    0: it may go within a day, or as soon as it is retrieved.  A client that heeds it
    leaves no mail on the server.
    """
    ages = [age for age in (policy.unread, policy.read, policy.any) if age is not None]
    if policy.newest is not None or policy.size is not None:
        ages.append(0)
    if policy.hold or not ages:
        return None
    return max(min(ages), policy.floor or 0) // _DAY


def after_login(policy: Policy) -> str:
    """The arguments of EXPIRE for the user of a mailbox with ``policy``."""
    days = days_kept(policy)
    return "NEVER" if days is None else str(days)


def before_login(policies: Iterable[Policy]) -> str:
    """The arguments of EXPIRE before login, from the policies of all users.

    The smallest value of all users, with ``USER`` if they differ; without users
    ``NEVER``.
    """
    values = {days_kept(policy) for policy in policies}
    days = [value for value in values if value is not None]
    smallest = str(min(days)) if days else "NEVER"
    return f"{smallest} USER" if len(values) > 1 else smallest
