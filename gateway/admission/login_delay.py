"""LOGIN-DELAY (RFC 2449 section 6.5): the time of each user's last login."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

from gateway.errors import LoginTooSoon
from gateway.model import Terms
from gateway.pop3.capabilities import login_delay_seconds
from gateway.pop3.profile import Profile


class LoginDelay:
    """The last logins, in memory.

    Only a successful login begins a delay; one that failed or came too soon
    does not.
    """

    def __init__(
        self, profile: Profile, seconds: Callable[[], float], *, entries: int = 100_000
    ) -> None:
        """``profile`` has the delay, ``seconds`` gives the time.

        Beyond ``entries`` users the oldest login is forgotten, and with it its delay.
        """
        self._seconds = seconds
        self._entries = entries
        self.configure(profile)
        self._at: OrderedDict[str, float] = OrderedDict()

    def configure(self, profile: Profile) -> None:
        """Another delay from now on, also after logins before."""
        self._profile = profile
        self.longest = login_delay_seconds(profile, Terms())
        """The longest delay of all users, in seconds; 0: no login is delayed, or noted."""

    def __len__(self) -> int:
        return len(self._at)

    def check(self, user: str, terms: Terms) -> None:
        """Raises ``LoginTooSoon`` during the delay after the user's last login."""
        last = self._at.get(user)
        if last is None:
            return
        # If the clock was set back, the last login is in the future and is ignored.
        since = self._seconds() - last
        if 0 <= since < login_delay_seconds(self._profile, terms):
            raise LoginTooSoon(f"{user} logged in {since:.1f} s ago")

    def begin(self, user: str, terms: Terms) -> None:
        """Begin the user's delay.  Raises as ``check`` does, and then begins none."""
        self.check(user, terms)
        self.note(user)

    def note(self, user: str) -> None:
        """Record that the user has just logged in."""
        if not self.longest:
            return
        now = self._seconds()
        self._at[user] = now
        self._at.move_to_end(user)
        while len(self._at) > self._entries or not self._matters(now):
            self._at.popitem(last=False)

    def waiting(self) -> Iterator[tuple[str, float]]:
        """The users that LOGIN-DELAY keeps out, the latest first, and for how many seconds.

        The longest delay is assumed: a user may have a shorter one.
        """
        now = self._seconds()
        for user, at in reversed(self._at.items()):
            if not 0 <= now - at < self.longest:
                return
            yield user, self.longest - (now - at)

    def left(self, user: str) -> float:
        """Seconds until the user may log in, as in ``waiting``; 0: now."""
        since = self._seconds() - self._at.get(user, -math.inf)
        return self.longest - since if 0 <= since < self.longest else 0.0

    def forget(self, user: str) -> bool:
        """Let the user log in now; whether there was a delay."""
        return self._at.pop(user, None) is not None

    def _matters(self, now: float) -> bool:
        """Whether the oldest login can still delay another one."""
        oldest = next(iter(self._at.values()))
        return 0 <= now - oldest < self.longest
