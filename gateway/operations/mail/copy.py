"""Copy a mailbox from one store to another while it is used, and switch at the end.

The order of the steps ensures that each message is in a mailbox that somebody serves, whenever
the copy is interrupted, and that a second run goes on where the first one ended:

1. the new mailbox is marked away: nobody else uses it until the end, and no earlier run goes on;
2. while the old one is used: what is missing is copied and compared, what went there is removed;
3. the old one is held, which ends with this process, and step 2 is done for the rest;
4. the old one is marked away, and both are compared;
5. the new one is opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

from attrs import frozen

from gateway.errors import (
    CopyDiffers,
    MailboxExists,
    MaildropBusy,
    MessageGone,
    NotSupported,
    ServedElsewhere,
    SizeChanged,
)
from gateway.model import (
    CopiedMessage,
    Level,
    MailboxImage,
    RetentionOrder,
    WarningChange,
    WarningState,
)
from gateway.operations.mail.copy_sides import Side, Sum
from gateway.operations.mail.stored_mail import account_of
from gateway.operations.tools import Tools

AHEAD = 1_000_000
"""How many unique-ids the old place may give while it is copied."""

PASSES = 4
"""Most passes while the old place is used."""

FEW = 20
"""Messages to copy after which the old place may be closed."""

SAME = 0.01
"""Seconds by which equal times may differ: stores keep them in different units."""

Progress = Callable[[int, int], None]
"""How many messages of how many are copied, or compared."""


@frozen
class CopiedMailbox:
    """A mailbox that was copied."""

    mailbox: str
    messages: int
    octets: int
    hidden_messages: int
    copied: int
    """Messages that this run has copied."""

    left_out: int
    """Messages in other folders, which only IMAP shows, and which were not copied."""

    is_switched: bool
    """The new place serves the mailbox now, and the old one does not any more."""

    closed: float
    """For how many seconds neither of them did."""


async def copy_mailbox(
    old: Tools,
    new: Tools,
    *,
    mailbox: str,
    switch: bool = True,
    progress: Progress = lambda _, __: None,
) -> CopiedMailbox:
    """Copy a mailbox with its unique-ids, order, marks, times, hidden mail and warnings.

    Without ``switch`` the old place goes on serving it.  Raises ``MailboxExists`` if the new place
    has mail of its own, ``ServedElsewhere`` if it was copied before, ``MaildropBusy`` if an
    exclusive session has it open, and ``CopyDiffers``.
    """
    if _is_same_place(old, new):
        raise NotSupported("both configurations name the same store: name the old and the new one")
    sides = [Side.of(tools, await account_of(tools, mailbox)) for tools in (old, new)]
    copy = _Copy(sides[0], sides[1], progress, old.now)
    await copy.begin()
    for _ in range(PASSES):
        if await copy.synchronise() <= FEW:
            break
    closed = 0.0
    if switch:
        closed = await copy.switch(lambda: _copy_state(old, new, mailbox))
    return copy.result(is_switched=switch, closed=closed)


def _is_same_place(old: Tools, new: Tools) -> bool:
    one, other = old.settings, new.settings
    return one.store == other.store and one.state_dir == other.state_dir


async def _copy_state(old: Tools, new: Tools, mailbox: str) -> None:
    """What is known of a mailbox beside its mail: quota warnings, the last login."""
    warned = (await old.state.warning_states(Level.NORMAL)).get(mailbox)
    if warned is not None:
        # In place of nothing: no warning is sent twice.
        unknown = WarningState()
        await new.state.take_back(mailbox, WarningChange(warned, unknown, None))
    logins = await old.state.find_logins([mailbox])
    if logins:
        await new.state.keep_logins(logins)
    await new.state.add_order(mailbox, RetentionOrder(new.now()))


class _Copy:
    """One mailbox that is copied."""

    def __init__(self, old: Side, new: Side, progress: Progress, now: Callable[[], float]) -> None:
        self._now = now
        self._old = old
        self._new = new
        self._progress = progress
        self._count = 0
        """Messages that were copied."""
        self._copied: dict[str, tuple[object, Sum]] = {}
        """By unique-id: versions of old messages that were copied, and their sums."""
        self._equal: dict[str, tuple[object, object]] = {}
        """By unique-id: versions of old and new messages that have the same octets."""
        self._last: tuple[MailboxImage, MailboxImage]
        """The last images of the old and the new mailbox."""
        self._mark = ""
        """That of the new mailbox: the name of the copy, and of this run of it."""

    # -- the beginning -----------------------------------------------------------

    async def begin(self) -> None:
        """Close the new mailbox, or take over the copy that has closed it."""
        old, new = await self._old.inspect(), await self._new.find()
        name = self._old.account.mailbox
        if old.away and (new is None or _copy_of(new.away) != _copy_of(old.away)):
            raise ServedElsewhere(
                f"{name}: was copied before, and another place serves it: copy it from there"
            )
        if new is not None and new.away:
            # If an earlier run is still under way, what it does next fails.
            self._mark = f"{_copy_of(new.away)} {uuid4().hex}"
            await self._new.mark(self._mark, new.away)
            return
        self._refuse_mail(new)
        self._mark = f"copy {uuid4().hex} {uuid4().hex}"
        await self._new.mark(self._mark, "")
        try:
            # What came before the mark did is known now.
            self._refuse_mail(await self._new.inspect())
            if (await self._old.inspect()).away == self._mark:
                raise NotSupported(
                    f"{name}: both configurations name the same store: name the old and the new one"
                )
        except BaseException:
            await self._new.mark("", self._mark)
            raise

    def _refuse_mail(self, new: MailboxImage | None) -> None:
        if new is not None and (count := len(new.messages) + new.left_out):
            raise MailboxExists(
                f"{self._new.account.mailbox}: the new place has {count} messages of its own:"
                " nothing is copied over them. Was it copied before? Do both configurations name"
                " the same store? Else delete the new mailbox, or move them away"
            )

    # -- one pass ----------------------------------------------------------------

    async def synchronise(self, *, is_held: bool = False) -> int:
        """Make the new mailbox like the old one; returns how many messages were copied.

        ``is_held``: nothing changes meanwhile.
        """
        old, new = await self._old.inspect(), await self._new.inspect()
        self._refuse_others(old, new)
        # At the switch nothing may be left to do.
        if not is_held or _first_difference(old, new):
            new = await self._adjusted(old)
        there = {one.uid for one in new.messages}
        missing = [one for one in old.messages if one.uid not in there]
        copied = await self._copy(missing, is_held=is_held)
        if copied:
            new = await self._adjusted(old)
        if differing := await self._compare(old, new, is_held=is_held):
            copied += await self._copy(differing, is_held=is_held)
            new = await self._adjusted(old)
            if wrong := await self._compare(old, new, is_held=is_held):
                raise self._differs(f"message {wrong[0].uid}: its octets")
        self._last = old, new
        self._count += copied
        return copied

    def _refuse_others(self, old: MailboxImage, new: MailboxImage) -> None:
        """Raise ``MailboxExists`` where mail came to the new mailbox that the old one never had."""
        known = {one.uid for one in old.messages}
        others = [
            one.uid
            for one in new.messages
            if one.uid not in known and _is_given(one.uid, old.next_uid, new.next_uid)
        ]
        if others:
            raise MailboxExists(
                f"{self._new.account.mailbox}: {len(others)} messages came to the new place from"
                f" elsewhere, the first is {others[0]}: stop what delivers there, and move them"
                " away"
            )

    async def _adjusted(self, old: MailboxImage) -> MailboxImage:
        """The new mailbox, made like the old one but for missing messages."""
        wanted = old._replace(next_uid=old.next_uid + AHEAD)
        await self._new.store.adjust(self._new.account, self._mark, wanted)
        return await self._new.inspect()

    async def _copy(self, messages: Sequence[CopiedMessage], *, is_held: bool) -> int:
        copied = 0
        for number, message in enumerate(messages):
            self._progress(number, len(messages))
            try:
                self._copied[message.uid] = message.version, await self._copy_one(message)
                copied += 1
            except (MessageGone, SizeChanged):
                # The next pass sees what became of it.
                if is_held:
                    raise
        self._progress(len(messages), len(messages))
        return copied

    async def _copy_one(self, message: CopiedMessage) -> Sum:
        text = await self._old.open(message)
        try:
            await self._new.store.take(self._new.account, self._mark, message, text)
            return await text.sum()
        finally:
            text.close()

    # -- comparing ---------------------------------------------------------------

    async def _compare(
        self, old: MailboxImage, new: MailboxImage, *, is_held: bool
    ) -> list[CopiedMessage]:
        """Read what was not compared yet; returns the messages with other octets."""
        pairs = self._uncompared(old, new)
        differing = []
        for number, (one, other) in enumerate(pairs):
            self._progress(number, len(pairs))
            try:
                is_equal = await self._sum_of_old(one) == await self._sum(self._new, other)
            except (MessageGone, SizeChanged):
                if is_held:
                    raise
                continue
            if is_equal:
                self._equal[one.uid] = one.version, other.version
            else:
                differing.append(one)
        self._progress(len(pairs), len(pairs))
        return differing

    def _uncompared(
        self, old: MailboxImage, new: MailboxImage
    ) -> list[tuple[CopiedMessage, CopiedMessage]]:
        there = {one.uid: one for one in new.messages}
        pairs = [(one, there[one.uid]) for one in old.messages if one.uid in there]
        return [
            (one, other)
            for one, other in pairs
            if self._equal.get(one.uid) != (one.version, other.version)
        ]

    async def _sum_of_old(self, message: CopiedMessage) -> Sum:
        version, known = self._copied.pop(message.uid, (None, None))
        if known is not None and version == message.version:
            return known
        return await self._sum(self._old, message)

    async def _sum(self, side: Side, message: CopiedMessage) -> Sum:
        text = await side.open(message)
        try:
            return await text.sum()
        finally:
            text.close()

    # -- the end -----------------------------------------------------------------

    async def switch(self, copy_state: Callable[[], Awaitable[None]]) -> float:
        """Close the old mailbox and open the new one; returns for how many seconds none was open.

        If it fails before both are alike, the old one is open again.
        """
        begun = self._now()
        release = await self._old.closing.hold(self._old.account)
        try:
            await self.synchronise(is_held=True)
            was_away = self._last[0].away
            await self._old.mark(self._mark, was_away)
            try:
                await self._check()
                await copy_state()
            except BaseException:
                await self._reopen(was_away)
                raise
            try:
                await self._new.mark("", self._mark)
            except MaildropBusy:
                # A later run has it, which is closed; after any other failure it may be open.
                await self._reopen(was_away)
                raise
        finally:
            release()
        return self._now() - begun

    async def _reopen(self, was_away: str) -> None:
        if not was_away:
            await self._old.mark("", self._mark)

    async def _check(self) -> None:
        """Raise ``CopyDiffers`` unless both are alike."""
        old, new = await self._old.inspect(), await self._new.inspect()
        self._last = old, new
        if difference := _first_difference(old, new):
            raise self._differs(difference)
        if pairs := self._uncompared(old, new):
            raise self._differs(f"message {pairs[0][0].uid}: its octets have changed")

    def _differs(self, what: str) -> CopyDiffers:
        return CopyDiffers(
            f"{self._old.account.mailbox}: the old and the new mailbox differ: {what}; the old"
            " place serves it as before. Run it again"
        )

    def result(self, *, is_switched: bool, closed: float) -> CopiedMailbox:
        """What was done."""
        old, new = self._last
        shown = [one for one in new.messages if one.hidden is None]
        return CopiedMailbox(
            mailbox=self._old.account.mailbox,
            messages=len(shown),
            octets=sum(one.octets for one in shown),
            hidden_messages=len(new.messages) - len(shown),
            copied=self._count,
            left_out=old.left_out,
            is_switched=is_switched,
            closed=closed,
        )


def _is_given(uid: str, first: int, end: int) -> bool:
    """Whether a mailbox may have given this unique-id itself, from ``first`` up to ``end``.

    Others are carried over: such texts may look like numbers, with zeros before or far above.
    """
    return uid.isdecimal() and first <= int(uid) < end and str(int(uid)) == uid


def _copy_of(mark: str) -> str:
    """The name of the copy in a mark, without that of the run."""
    return " ".join(mark.split()[:2])


def _first_difference(old: MailboxImage, new: MailboxImage) -> str:
    """The first thing that two mailboxes differ in, but for octets; empty: none."""
    if len(old.messages) != len(new.messages):
        return f"{len(old.messages)} messages, and {len(new.messages)}"
    for one, other in zip(old.messages, new.messages, strict=True):
        if one.hidden is None and one.uid != other.uid:
            return f"the order: {one.uid} is where {other.uid} is"
    there = {one.uid: one for one in new.messages}
    for one in old.messages:
        if one.uid not in there:
            return f"message {one.uid}: it is missing"
        if wrong := _difference(one, there[one.uid]):
            return f"message {one.uid}: its {wrong}"
    if new.next_uid < old.next_uid:
        return f"the next unique-id: {old.next_uid}, and {new.next_uid}"
    return ""


def _difference(one: CopiedMessage, other: CopiedMessage) -> str:
    """The first attribute that two messages differ in; empty: none."""
    if (one.read is None) != (other.read is None):
        return "mark as read"
    for name in ("received", "hidden"):
        this, that = getattr(one, name), getattr(other, name)
        if (this is None) != (that is None) or (this is not None and abs(this - that) > SAME):
            return "time of hiding" if name == "hidden" else "time"
    return ""
