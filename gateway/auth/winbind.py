"""NTLM responses verified by a domain controller, through Samba's ``ntlm_auth`` helper.

A helper blocks until the domain controller answers.  So several run, each with one
request at a time; one that times out is killed.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    GatewayError,
    LoginDisabled,
    Overloaded,
    UnknownLogin,
    WrongPassword,
)
from gateway.events import Emit
from gateway.interfaces import INtlmAuthority, INtlmResponse
from gateway.observe.log import emit_to_log
from gateway.observe.outage import Outage
from gateway.saslprep import login_name

log = Logger()

PROTOCOL = "--helper-protocol=ntlm-server-1"

_WAITING = 200
"""Requests that may wait for a helper."""

_STOPPED = "the NTLM helpers were stopped"

# Texts of Samba's get_friendly_nt_error_msg.  Any other text is a failure of the
# helper, not a wrong password.
_REFUSED = re.compile(r"password|account|logon is invalid|NTLM was blocked|Not Enough Quota")
# The account is missing, may not log in (in this way), or has an expired password.  Domain
# controllers report these for the right password only, or without checking it.
_NO_GUESS = re.compile(r"NTLM was blocked|disabled|expired|must change|restriction|does not exist")
_TROUBLE = re.compile(r"trust relationship|logon server")


class _Helper(ProcessProtocol):
    """One process."""

    transport: Any

    def __init__(self, pool: Winbind) -> None:
        self._pool = pool
        self._input = b""
        self._lines: list[str] = []
        self._answer: Deferred[list[str]] | None = None
        self._late: Any = None
        self._said = b""

    def ask(self, question: bytes, seconds: float) -> Deferred[list[str]]:
        """The lines of the answer; fails with ``DirectoryDown``."""
        self._answer = Deferred()
        late = "the NTLM helper did not answer in time"
        self._late = self._pool.reactor.callLater(seconds, self.end, late)
        self.transport.write(question)
        return self._answer

    def outReceived(self, data: bytes) -> None:
        """Some of an answer; a refusal ends in two dots, and the second may come later."""
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if line != b".":
                self._lines.append(line.decode("utf-8", "replace"))
            elif self._lines:
                answer, self._lines = self._lines, []
                self._answered(answer)

    def errReceived(self, data: bytes) -> None:
        """Keep what it writes to stderr, for the failure if it ends."""
        self._said = (self._said + data)[-400:]

    def processEnded(self, reason: Failure) -> None:
        """The process ended: fail the pending request."""
        self._pool.ended(self)
        said = self._said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._failed(DirectoryDown(f"the NTLM helper ended: {said or reason.getErrorMessage()}"))

    def end(self, why: str) -> None:
        """Kill it, and fail the pending request."""
        self.kill()
        self._failed(DirectoryDown(why))

    def kill(self) -> None:
        """Kill it: its late answer must not be taken for that of another request."""
        self._pool.ended(self)
        if self.transport.pid is not None:
            self.transport.signalProcess("KILL")
            self.transport.loseConnection()

    def _answered(self, lines: list[str]) -> None:
        answer = self._take()
        if answer is None or any(line.startswith(("Error:", "ERR")) for line in lines):
            # Requests and answers no longer match.
            self.kill()
        else:
            self._pool.free(self)
        if answer is not None:
            answer.callback(lines)

    def _failed(self, error: GatewayError) -> None:
        answer = self._take()
        if answer is not None:
            answer.errback(error)

    def _take(self) -> Deferred[list[str]] | None:
        answer, self._answer = self._answer, None
        if self._late is not None and self._late.active():
            self._late.cancel()
        return answer


@implementer(INtlmAuthority)
class Winbind:
    """A pool of helpers."""

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        *,
        helpers: int,
        timeout: float,
        domains: Collection[str],
        emit: Emit = emit_to_log,
    ) -> None:
        """``domains``: in them ``DOMAIN\\user`` has the login name ``user``; ``timeout`` in s."""
        self.reactor = reactor
        self._command = [*command, PROTOCOL]
        self._most = helpers
        self._timeout = timeout
        self._domains = frozenset(name.lower() for name in domains if name)
        self._helpers: set[_Helper] = set()
        self._idle: list[_Helper] = []
        self._outage = Outage("winbind", reactor.seconds, emit)
        self._waiting: deque[tuple[bytes, Deferred[list[str]]]] = deque()

    def prove(self, claim: INtlmResponse) -> Deferred[tuple[str, bytes]]:
        """Verify the response.  Fails with ``BadCredentials`` or ``DirectoryDown``."""
        user, domain = claim.user, claim.domain
        if "\0" in user + domain:
            # The helper would ignore what follows a NUL.
            return fail(BadCredentials("a NUL in an NTLM name"))
        foreign = domain and domain.lower() not in self._domains and "@" not in user
        name = rf"{domain}\{user}" if foreign else user
        try:
            login = login_name(name.encode("utf-8"))
        except ValueError:
            return fail(BadCredentials(f"{name!r} is no valid name"))
        asked = self._ask(_question(claim)).addCallback(_read, login)
        return asked.addCallbacks(self._answered, self._failed)

    def bare(self, login: str) -> str:
        """The user of a login name without a domain of ours, on either side.

        For counting only: a user's name before an at sign may be another user's name without.
        """
        domain, separator, user = login.replace("/", "\\").partition("\\")
        if separator and user and domain in self._domains:
            login = user
        user, _, domain = login.rpartition("@")
        return user if user and domain in self._domains else login

    def _answered(self, proven: tuple[str, bytes]) -> tuple[str, bytes]:
        self._outage.answered()
        return proven

    def _failed(self, failure: Failure) -> Failure:
        if isinstance(failure.value, DirectoryDown):
            self._outage.failed(failure.value)
            failure.value.logged = True
        elif failure.check(BadCredentials):
            self._outage.answered()
        return failure

    def _ask(self, question: bytes) -> Deferred[list[str]]:
        if not self._most:
            return fail(DirectoryDown(_STOPPED))
        if len(self._waiting) >= _WAITING:
            return fail(Overloaded(f"winbind: {_WAITING} requests wait"))
        answer: Deferred[list[str]] = Deferred()
        self._waiting.append((question, answer))
        self._go_on()
        return answer

    def _go_on(self) -> None:
        while self._waiting and (self._idle or self._start()):
            helper = self._idle.pop()
            question, answer = self._waiting.popleft()
            helper.ask(question, self._timeout).chainDeferred(answer)

    def _start(self) -> bool:
        """Start another helper; False if there are enough, or the system allows no more."""
        if len(self._helpers) >= self._most:
            return False
        helper = _Helper(self)
        path = os.environ.get("PATH", os.defpath)
        try:
            self.reactor.spawnProcess(helper, self._command[0], self._command, env={"PATH": path})
        except OSError as error:
            if not self._helpers:
                # One that runs takes the next request when it is free; there is none.
                self._give_up(f"the NTLM helper cannot be started: {error.strerror}")
            return False
        self._helpers.add(helper)
        self._idle.append(helper)
        return True

    def _give_up(self, why: str) -> None:
        """Fail the requests that wait for a helper."""
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            answer.errback(DirectoryDown(why))

    def free(self, helper: _Helper) -> None:
        """The helper has answered: it is free."""
        self._idle.append(helper)
        self._go_on()

    def ended(self, helper: _Helper) -> None:
        """Do not use the helper again."""
        if helper in self._helpers:
            self._helpers.discard(helper)
            if helper in self._idle:
                self._idle.remove(helper)
            self._go_on()

    def stop(self) -> None:
        """End all helpers, fail all requests, and start no helper again."""
        self._most = 0
        self._outage.replaced()
        for helper in list(self._helpers):
            helper.end(_STOPPED)
        self._give_up(_STOPPED)


def _question(claim: INtlmResponse) -> bytes:
    fields = {
        "NT-Domain:": b64encode(claim.domain.encode("utf-8")),
        "Username:": b64encode(claim.user.encode("utf-8")),
        "LANMAN-Challenge": claim.challenge.hex().encode(),
        "NT-Response": claim.response.hex().encode(),
        "Request-User-Session-Key": b"Yes",
    }
    if not claim.domain:
        del fields["NT-Domain:"]
    return b"".join(b"%b: %b\n" % (key.encode(), value) for key, value in fields.items()) + b".\n"


def _read(lines: list[str], login: str) -> tuple[str, bytes]:
    said = dict(line.partition(": ")[::2] for line in lines)
    if said.get("Authenticated") == "Yes":
        try:
            return login, bytes.fromhex(said.get("User-Session-Key", ""))
        except ValueError:
            raise DirectoryDown("winbind: the session key is not hexadecimal") from None
    reason = said.get("Authentication-Error", "; ".join(lines))
    if _REFUSED.search(reason) and not _TROUBLE.search(reason):
        guessed = not _NO_GUESS.search(reason)
        text = f"the domain refused {login}: {reason}"
        kind = UnknownLogin if "does not exist" in reason else WrongPassword
        raise (kind if guessed or kind is UnknownLogin else LoginDisabled)(
            text, account=login, guessed=guessed
        )
    raise DirectoryDown(
        f"winbind: {reason} (is winbindd running, and are we in the group winbindd_priv?)"
    )
