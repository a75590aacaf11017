"""How a POP3 session replies: status lines, multi-line replies, refusals, and the close."""

from __future__ import annotations

from collections.abc import Callable

from gateway.pop3.actions import Action, HangUp
from gateway.pop3.profile import Profile
from gateway.pop3.refusals import Refused
from gateway.pop3.texts import LANGUAGES, SETS
from gateway.wire.body import END
from gateway.wire.dialogue import LineDialogue

_HANG_UP, _ABORT = HangUp(), HangUp(abort=True)


def _nothing(_: str) -> None:
    """Nobody wants to know."""


class Replies(LineDialogue[Action]):
    """What ``Session`` inherits; a call costs no more than one of its own methods."""

    at_command: Callable[[str], object] = staticmethod(_nothing)
    """Called with the name of each command before it is processed: one of the table,
    ``response`` for a SASL response, or ``other``."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self._texts = SETS[profile.texts]
        self._refused = 0
        """Commands refused since the last one that was accepted."""
        self.refusals = 0
        """Replies ``-ERR`` so far."""

    def _say(self, text: bytes) -> None:
        self.output.put(text + b"\r\n")

    def _ok(self, key: str) -> None:
        self.output.put(b"+OK %b\r\n" % self._texts[key])

    def _refuse(self, key: str, code: str = "") -> None:
        self.refusals += 1
        bracket = f"[{code}] ".encode("ascii") if code else b""
        self.output.put(b"-ERR %b%b\r\n" % (bracket, self._texts[key]))

    def _multiline(self, key: str, lines: bytes) -> None:
        self._ok(key)
        self.output.put(lines)
        self.output.put(END)

    def _lang(self, wanted: bytes | None = None) -> None:
        if wanted is None:
            lines = "".join(f"{tag} {name}\r\n" for tag, (name, _) in LANGUAGES.items())
            self._multiline("languages", lines.encode("utf-8"))
            return
        # RFC 4647 section 3.4: de-AT is served by de.
        tag = self.profile.language if wanted == b"*" else wanted.decode("ascii").lower()
        while tag and tag not in LANGUAGES:
            tag = tag.rpartition("-")[0]
        if not tag:
            raise Refused("no_language")
        self._texts = LANGUAGES[tag][1]
        self._say(b"+OK " + tag.encode("ascii") + b" " + self._texts["language"])

    def _refuse_command(self, key: str, code: str = "") -> None:
        """Refuse what the client should not have sent; too often, and it is closed."""
        self._refused += 1
        is_last = self._refused >= self.profile.refused_in_a_row
        # What has a code must keep it: a wrong password, or an outage.
        self._refuse("too_many_refused" if is_last and not code else key, code)
        if is_last:
            self._close()

    def _close(self, *, abort: bool = False) -> None:
        self._hang_up(_ABORT if abort else _HANG_UP)

    def idle(self) -> None:
        """The client has been silent for too long: no UPDATE, maybe a word, and out."""
        self._dismiss("idle")

    def dismiss(self) -> None:
        """The server is stopping."""
        self._dismiss("closing")

    def _dismiss(self, key: str) -> None:
        if self.profile.idle_notice:
            self._refuse(key)
        self._close()
