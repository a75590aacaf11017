"""The limits of a mailbox: from its account, its domain and the defaults."""

from __future__ import annotations

from gateway.model import UNLIMITED, Limits, Quota


def resolve(
    account: Quota,
    domain: Quota,
    store: Quota,
    grace: int = 0,
    *,
    warn_percent: int | None = None,
) -> Limits:
    """Each value of the account, else of its domain, else the default.

    ``grace`` in octets.  ``warn_percent`` applies to mailboxes with a limit and without
    a warning level below it: the account's limit may be far below the default warning
    level.
    """
    said = (account, domain, store)
    octets = _limit(_first(*(quota.octets for quota in said)))
    warn = account.warn_octets
    if warn is None:
        warn = _inherited_warning(
            octets, _first(domain.warn_octets, store.warn_octets), warn_percent
        )
    return Limits(
        octets=octets,
        messages=_limit(_first(*(quota.messages for quota in said))),
        grace_octets=grace,
        warn_octets=_limit(warn),
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _inherited_warning(octets: int | None, warn: int | None, percent: int | None) -> int | None:
    if octets is None or percent is None or warn == UNLIMITED:
        return warn
    return warn if warn is not None and warn < octets else octets * percent // 100


def _limit(value: int | None) -> int | None:
    return None if value is None or value >= UNLIMITED else value
