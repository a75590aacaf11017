"""Mail transactions: envelope, content, and the replies."""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.lmtp import actions, envelope, replies
from gateway.lmtp.actions import Action
from gateway.lmtp.content import Chunk, Dotted, Outcomes
from gateway.lmtp.profile import Profile
from gateway.lmtp.refusals import refusal_of
from gateway.lmtp.replies import Refused, Reply
from gateway.lmtp.transaction import Transaction
from gateway.wire.lines import LineBuffer

_CHUNK = re.compile(r"([0-9]{1,20})(?:[ \t]+(LAST))?", re.IGNORECASE | re.ASCII)


class SessionCounts:
    """Counts of a session, for its log line."""

    __slots__ = ("delivered", "messages", "octets", "refused")

    def __init__(self) -> None:
        self.messages = self.octets = self.delivered = self.refused = 0


class Intake:
    """The part of a session that is about mail: MAIL, RCPT, DATA, BDAT, RSET."""

    def __init__(
        self, profile: Profile, say: Callable[[Reply], None], ask: Callable[[Action], None]
    ) -> None:
        """``say`` sends a reply; ``ask`` queues an action for the shell."""
        self.counts = SessionCounts()
        self._profile = profile
        self._say = say
        self._ask = ask
        self._transaction: Transaction | None = None
        self._address = ""
        self._content: Dotted | Chunk | None = None
        """The content that is arriving, or is complete and has no replies yet."""
        self._all_in = False
        self._outcomes = Outcomes(0)
        self._over = False
        """Whether a message has ended without a MAIL or RSET since."""

    @property
    def busy(self) -> bool:
        """Whether a transaction has begun."""
        return self._transaction is not None

    @property
    def receiving(self) -> bool:
        """Whether the next octets are content."""
        return self._content is not None

    # -- commands ------------------------------------------------------------

    def forget(self) -> None:
        """End the transaction, and forget it."""
        transaction, self._transaction = self._transaction, None
        self._over = False
        if transaction is not None and transaction.open:
            self._ask(actions.Abort())

    def next_message(self) -> None:
        """MAIL has come, or what may have been it.

        Even if it is rejected, a pipelined BDAT LAST belongs to the next message.
        """
        self._over = False

    def mail(self, argument: str) -> None:
        """MAIL.  Raises ``Refused``, as all commands do."""
        if self._transaction is not None:
            raise Refused(replies.IN_TRANSACTION)
        sender = envelope.sender(argument)
        if self._profile.too_large(sender.size):
            raise Refused(replies.TOO_LARGE)
        self._transaction = Transaction(sender)
        self._say(replies.SENDER)

    def rcpt(self, argument: str) -> None:
        """RCPT."""
        transaction = self._transaction
        if transaction is None:
            raise Refused(replies.NO_MAIL)
        if transaction.chunked:
            raise Refused(replies.IN_TRANSACTION)
        address = envelope.recipient(argument, utf8=transaction.sender.utf8)
        place = len(transaction.recipients)
        if place >= self._profile.max_recipients:
            raise Refused(replies.TOO_MANY_RECIPIENTS)
        self._address = address
        self._ask(actions.Recipient(address, transaction.sender.size, place))

    def data(self) -> None:
        """DATA."""
        transaction = self._transaction
        if transaction is None:
            raise Refused(replies.OVER if self._over else replies.NO_MAIL)
        if transaction.chunked:
            if transaction.spoiled is None:
                self._spoil(replies.MIXED)
            raise Refused(replies.MIXED)
        if not transaction.recipients:
            raise Refused(replies.NO_RECIPIENT)
        self._begin(transaction)

    def bdat(self, argument: str) -> None:
        """BDAT."""
        match = _CHUNK.fullmatch(argument)
        if match is None:
            # Content follows, and must never be parsed as commands.
            raise Refused(replies.BAD_CHUNK)
        # The octets follow whatever the reply is: BDAT may be pipelined.
        chunk = int(match[1])
        self._content = Chunk(chunk, last=match[2] is not None)
        transaction = self._transaction
        if transaction is None:
            return
        transaction.chunked = True
        if transaction.spoiled is not None:
            return
        if not transaction.recipients:
            transaction.spoiled = replies.NO_RECIPIENT
        elif self._profile.too_large(transaction.octets + chunk):
            self._spoil(replies.TOO_LARGE)
        elif not transaction.open:
            self._begin(transaction)

    def _begin(self, transaction: Transaction) -> None:
        sender, recipients = transaction.sender, tuple(transaction.recipients)
        self._ask(actions.Begin(sender.address, recipients, sender.utf8))

    def _spoil(self, reply: Reply) -> None:
        """Reject the message, for this reason."""
        transaction = self._present()
        transaction.spoiled = reply
        if transaction.open:
            transaction.open = False
            self._ask(actions.Abort())

    def _present(self) -> Transaction:
        assert self._transaction is not None, "no transaction"
        return self._transaction

    @property
    def sender(self) -> str:
        """The sender of the present transaction; empty: ``<>``, or there is none."""
        return "" if self._transaction is None else self._transaction.sender.address

    @property
    def octets(self) -> int:
        """Octets of the present message so far, as RETR counts them; 0: there is none."""
        return 0 if self._transaction is None else self._transaction.octets

    # -- content -------------------------------------------------------------

    def go_on(self, source: LineBuffer) -> bool:
        """Process content, or reply to it; False: nothing arrived."""
        content = self._content
        assert content is not None, "no content is coming"
        if self._all_in:
            self._end(content)
            return True
        data = content.take(source)
        if data is None:
            return False
        self._all_in = content.ended
        transaction = self._transaction
        if transaction is None or transaction.spoiled is not None:
            return True
        piece = transaction.take(data, last=content.ended and content.last)
        if self._profile.too_large(transaction.octets):
            self._spoil(replies.TOO_LARGE)
        elif piece:
            self._ask(actions.Write(piece))
        return True

    def _end(self, content: Dotted | Chunk) -> None:
        """Reply to a message, or to a chunk that is not its last."""
        self._content, self._all_in = None, False
        transaction = self._transaction
        if transaction is None:
            # To the last chunk there is a reply for each accepted recipient, and
            # if MAIL or all RCPT were refused that is none (RFC 2033 section 4.3);
            # but after a message has ended it is an error (RFC 3030 section 2).
            if self._over:
                self._say(replies.OVER)
            elif not content.last:
                self._say(replies.NO_MAIL)
            self._over = self._over or content.last
        elif isinstance(content, Chunk) and not content.last:
            self._say(transaction.spoiled or content.noted)
        elif transaction.spoiled is not None:
            # The same reply to all chunks after the first that failed: whichever the
            # client uses, a temporary failure never becomes a permanent one.
            for _ in transaction.recipients:
                self._say(transaction.spoiled)
            self._conclude()
        else:
            self._outcomes = Outcomes(len(transaction.recipients))
            self._ask(actions.Finish())

    def _conclude(self) -> None:
        """All recipients of the message have their replies."""
        self._transaction = None
        self._over = True

    # -- answers -------------------------------------------------------------

    def accepted(self) -> None:
        """The answer to ``Recipient``."""
        self._present().recipients.append(self._address)
        self._say(replies.RECIPIENT)

    def refused(self, error: BaseException) -> None:
        """The answer to ``Recipient``."""
        self._say(refusal_of(error, self._profile))

    def begun(self) -> None:
        """The answer to ``Begin``."""
        self._present().open = True
        if self._content is None:
            self._content = Dotted()
            self._say(replies.GO_AHEAD)

    def begin_failed(self, error: BaseException) -> None:
        """The answer to ``Begin``."""
        reply = refusal_of(error, self._profile)
        if self._content is None:
            # The recipients stay: the client may send DATA again.
            self._say(reply)
        else:
            self._spoil(reply)

    def write_failed(self, error: BaseException) -> None:
        """The answer to ``Write``."""
        self._spoil(refusal_of(error, self._profile))

    def delivered(self, index: int, error: BaseException | None) -> bool:
        """An answer to ``Finish``; returns whether it was the last one."""
        self._outcome(index, error)
        if self._outcomes.unknown:
            return False
        self.counts.messages += 1
        self.counts.octets += self._present().octets
        self._conclude()
        return True

    def give_up(self, error: BaseException) -> None:
        """Reply ``error`` for every recipient without an answer."""
        for index in sorted(self._outcomes.unknown):
            self._outcome(index, error)

    def _outcome(self, index: int, error: BaseException | None) -> None:
        if error is None:
            self.counts.delivered += 1
            reply = replies.DELIVERED
        else:
            self.counts.refused += 1
            reply = refusal_of(error, self._profile)
        for ready in self._outcomes.put(index, reply):
            self._say(ready)
