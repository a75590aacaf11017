"""The sessions of operators, as signed cookies: no process keeps any."""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal, Self

from attrs import asdict, evolve, frozen

IDLE = 30 * 60.0
"""Seconds after which a session without a request ends."""

LONGEST = 12 * 3600.0
"""Seconds after which any session ends."""

RENEW = 60.0
"""Seconds after which a request renews the cookie."""

_LARGEST = 1024
"""Most octets of a cookie that are looked at."""


@frozen
class Visit:
    """What a cookie says: who has logged in, and when."""

    kind: Literal["token", "account", "anonymous"]
    name: str
    """Of the token, or of the account."""

    proof: str
    """A digest of the token: another token of that name is not that one."""

    id: str
    """Random, new at each login; form tokens are made of it."""

    began: float
    """When the operator logged in, in Unix seconds."""

    seen: float
    """When the cookie was made."""

    @classmethod
    def begin(
        cls, kind: Literal["token", "account", "anonymous"], name: str, proof: str, now: float
    ) -> Self:
        """A visit that begins now."""
        return cls(kind, name, proof, secrets.token_urlsafe(18), now, now)

    def has_ended(self, now: float) -> bool:
        """Whether it has expired; also if a clock was wrong, and it lies in the future."""
        return not (0 <= now - self.seen < IDLE and 0 <= now - self.began < LONGEST)


class Cookies:
    """Signs visits, form tokens and digests with a key that all workers share."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, visit: Visit) -> str:
        """The value of a cookie."""
        text = json.dumps(asdict(visit), separators=(",", ":")).encode("ascii")
        content = urlsafe_b64encode(text).decode("ascii")
        return f"{content}.{self._sign('visit', content)}"

    def find(self, value: str, now: float) -> Visit | None:
        """The visit of a cookie; None: it is not ours, was changed, or has expired."""
        content, _, signature = value[:_LARGEST].partition(".")
        if not self._is_signed("visit", content, signature):
            return None
        visit = Visit(**json.loads(urlsafe_b64decode(content)))
        return None if visit.has_ended(now) else visit

    def renewed(self, visit: Visit, now: float) -> str | None:
        """The value of a newer cookie; None: the one that the browser has is new enough."""
        return self.seal(evolve(visit, seen=now)) if now - visit.seen >= RENEW else None

    def form_token(self, visit: Visit) -> str:
        """The token of each form of this visit."""
        return self._sign("form", visit.id)

    def is_form_token(self, visit: Visit, token: str) -> bool:
        """Whether a form that came is of this visit."""
        return self._is_signed("form", visit.id, token)

    def digest(self, secret: str) -> str:
        """What a cookie keeps of a token."""
        return self._sign("token", secret)[:22]

    def _is_signed(self, purpose: str, content: str, signature: str) -> bool:
        expected = self._sign(purpose, content).encode("ascii")
        return hmac.compare_digest(expected, signature.encode("utf-8", "replace"))

    def _sign(self, purpose: str, content: str) -> str:
        message = f"{purpose}\0{content}".encode("utf-8", "surrogateescape")
        made = hmac.digest(self._key, message, "sha256")
        return urlsafe_b64encode(made).rstrip(b"=").decode("ascii")
