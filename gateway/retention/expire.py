"""What CAPA's EXPIRE says of retention policies (RFC 2449 section 6.7).

Its number is a promise: so many days at least a message stays.  What is
promised is therefore rounded down, and of all rules the one counts that may
remove a message first.  The rules about room remove messages of any age, those
about age of no lesser one than theirs, and none of them anything below the
floor.  Mail that is only hidden is gone for POP3.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.retention.rules import Policy

_DAY = 86_400


def days_kept(policy: Policy) -> int | None:
    """The whole days that a message stays at least; None: it is never removed.

    0 where it may go within a day, at worst as soon as it is retrieved; a
    client that relies on nothing then leaves no mail on the server.
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
    """The arguments of EXPIRE while the user is not known, from the policies of all users.

    The smallest value that any of them has, with ``USER`` if not all have the
    same; of no users ``NEVER``.
    """
    values = {days_kept(policy) for policy in policies}
    days = [value for value in values if value is not None]
    smallest = str(min(days)) if days else "NEVER"
    return f"{smallest} USER" if len(values) > 1 else smallest
