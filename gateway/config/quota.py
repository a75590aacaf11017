"""The settings of quotas and of quota warnings: ``[quota]``."""

from __future__ import annotations

import attrs
from attrs import Factory, field, frozen

from gateway.config import checks as check
from gateway.quota.texts import (
    BUILT_IN,
    Templates,
    check_subject,
    check_template,
    is_known,
    own_templates,
)

ZERO_REMARK = 'a quota of 0 is no limit; it used to refuse all mail. "unlimited" says the same'
"""What check-config says of a quota of 0, in the configuration and in a passwd-file."""


@frozen
class DomainQuota:
    """``[quota.domains."NAME"]``: limits of the mailboxes of a domain."""

    octets: str = field(default="", **check.SIZE)
    warn_octets: str = field(default="", **check.SIZE)
    messages: int | None = field(default=None, **check.within(0, 2**50))


@frozen
class Text:
    """``[quota.texts.LANGUAGE.KIND]``: your own text of a warning; empty: the built-in text."""

    subject: str = field(default="", **check.checked(check_subject))
    text: str = field(default="", **check.checked(check_template))
    html: str = field(default="", **check.checked(check_template))


@frozen
class Texts:
    """``[quota.texts.LANGUAGE]``: texts for nearly full and for full mailboxes."""

    warn: Text = Factory(Text)
    over: Text = Factory(Text)


def _own_templates(value: dict[str, Texts]) -> Templates:
    check.languages(value)
    return own_templates({language: attrs.asdict(texts) for language, texts in value.items()})


@frozen
class Quota:
    """``[quota]``: limits of mailboxes without a limit in the directory, and warnings."""

    octets: str = field(default="", **check.SIZE)
    warn_octets: str = field(default="", **check.SIZE)
    messages: int | None = field(default=None, **check.within(0, 2**50))
    warn_percent: int | None = field(default=None, **check.within(1, 100))
    grace: str = field(default="0", **check.SOME_SIZE)
    warn_from: str = field(default="", **check.SENDER)
    warn_again: float = field(default=7 * 86_400.0, **check.POSITIVE)
    warn_check: float = field(default=3600.0, **check.POSITIVE)
    digest_to: str = field(default="", **check.ADDRESS)
    digest_every: float = field(default=86_400.0, **check.POSITIVE)
    warn_language: str = "en"
    texts: dict[str, Texts] = field(factory=dict, **check.checked(_own_templates))
    domains: dict[str, DomainQuota] = field(factory=dict, **check.DOMAINS)

    @property
    def templates(self) -> Templates:
        """``texts``, completed with the built-in ones.  Raises ``ValueError`` for a bad text."""
        return _own_templates(self.texts)

    @property
    def language_fault(self) -> str:
        """The error in ``warn_language``; empty if there is none."""
        if is_known(self.warn_language, self.templates):
            return ""
        built_in = ", ".join(map(repr, BUILT_IN))
        return f"expected {built_in} or a language of quota.texts, found {self.warn_language!r}"
