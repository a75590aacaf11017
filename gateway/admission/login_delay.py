"""When users last logged in, and who has to wait (RFC 2449 section 6.5)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import LoginTooSoon
from gateway.model import Terms
from gateway.pop3.capabilities import login_delay_seconds
from gateway.pop3.profile import Profile


class LoginDelay:
    """Shared by all listeners of a server, and forgotten when it stops.

    Only a login that was answered ``+OK`` begins a delay: neither one that
    failed nor one that came too soon makes anybody wait.
    """

    def __init__(
        self, profile: Profile, seconds: Callable[[], float], *, entries: int = 100_000
    ) -> None:
        """``seconds`` gives the time.

        No more than ``entries`` users are remembered; one who is forgotten
        may come again at once.
        """
        self._profile = profile
        self._seconds = seconds
        self._entries = entries
        self._longest = login_delay_seconds(profile, Terms())
        self._at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._at)

    def check(self, user: str, terms: Terms) -> None:
        """Raises ``LoginTooSoon`` while the user has to wait."""
        last = self._at.get(user)
        if last is None:
            return
        # A clock that was set back locks nobody out: that login counts no more.
        since = self._seconds() - last
        if 0 <= since < login_delay_seconds(self._profile, terms):
            raise LoginTooSoon(f"{user} logged in {since:.1f} s ago")

    def begin(self, user: str, terms: Terms) -> None:
        """The user is logged in from now on; raises as ``check``, and then is not."""
        self.check(user, terms)
        if not self._longest:
            return
        now = self._seconds()
        self._at[user] = now
        self._at.move_to_end(user)
        while len(self._at) > self._entries or not self._matters(now):
            self._at.popitem(last=False)

    def _matters(self, now: float) -> bool:
        """Whether the oldest login can still make anybody wait."""
        oldest = next(iter(self._at.values()))
        return 0 <= now - oldest < self._longest
