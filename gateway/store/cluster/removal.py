"""Removal, hiding and restoring: each is a transaction with its audit entries.  Blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from gateway.errors import GatewayError, NoSuchMailbox
from gateway.model import Contents, Reason, Removed, Usage
from gateway.postgresql.database import Cursor, Database
from gateway.store.audited import entry, message_id_in
from gateway.store.cluster.sql import audit, changes
from gateway.store.cluster.sql.audit import NotAudited
from gateway.store.cluster.sql.changes import Locked
from gateway.store.cluster.sql.rows import Kept

BATCH = 1000
"""Messages of a mailbox to change in one transaction: one has a time limit."""

Change = Callable[[Cursor, Locked, Collection[int]], None]


class Removal:
    """What takes messages away from POP3, and brings them back."""

    def __init__(self, database: Database, *, audited: bool) -> None:
        """``audited``: write an entry for each message."""
        self._database = database
        self._audited = audited

    def remove(self, name: str, unique_ids: Collection[str], cause: Reason) -> int:
        """Remove messages that are shown; returns how many.  As the interface for the rest."""
        return self._change(name, unique_ids, "discard", changes.remove, cause)

    def hide(self, name: str, unique_ids: Collection[str], cause: Reason) -> int:
        """Hide messages."""
        return self._change(name, unique_ids, "hide", changes.hide, cause)

    def purge(self, name: str, unique_ids: Collection[str], cause: Reason) -> int:
        """Remove messages that are hidden."""
        return self._change(name, unique_ids, "purge", changes.remove, cause, hidden=True)

    def restore(self, name: str, unique_ids: Collection[str], cause: Reason | None) -> int:
        """Show hidden messages again; without a cause no entry tells."""
        return self._change(name, unique_ids, "restore", changes.restore, cause, hidden=True)

    def _change(
        self,
        name: str,
        unique_ids: Collection[str],
        action: str,
        change: Change,
        cause: Reason | None,
        *,
        hidden: bool = False,
    ) -> int:
        """Up to ``BATCH`` messages are one transaction; an error has ``done`` what went before."""
        wanted, done = [*unique_ids], 0
        try:
            # At least once: whether there is such a mailbox is not said by an empty list.
            for start in range(0, max(len(wanted), 1), BATCH):
                some = wanted[start : start + BATCH]
                done += self._change_some(name, some, (action, name, cause), change, hidden=hidden)
        except GatewayError as error:
            if done:
                error.after(messages=done)
            raise
        return done

    def _change_some(
        self,
        name: str,
        unique_ids: Collection[str],
        told: tuple[str, str, Reason | None],
        change: Change,
        *,
        hidden: bool,
    ) -> int:
        done = 0

        def work(cursor: Cursor, _: bool) -> int:
            nonlocal done
            box = changes.lock(cursor, name)
            found = changes.find(cursor, box, unique_ids, hidden=hidden)
            self._apply(cursor, box, found, told, change)
            # A repetition finds nothing if the attempt before has happened.
            done = len(found) or done
            return done

        return self._database.transact(work)

    def end_session(
        self,
        mailbox: int,
        removed: Collection[int],
        retrieved: Collection[int],
        cause: Reason,
        *,
        hide: bool,
    ) -> None:
        """QUIT: take away the messages with the uids ``removed``, and mark ``retrieved``.

        Up to ``BATCH`` messages are one transaction; of more some may be gone after a failure.
        The mailbox may have another name than at the login: the entries have that of now.
        """
        action, change = ("hide", changes.hide) if hide else ("discard", changes.remove)
        uids = sorted(removed)
        for start in range(0, len(uids), BATCH):
            some, read = uids[start : start + BATCH], () if start else retrieved
            take = partial(self._take, mailbox, some, read, action, cause, change)
            try:
                self._database.transact(take)
            except NotAudited:
                # The marks were undone with the rest, and need no entry.
                if read:
                    self.mark(mailbox, read)
                raise

    def _take(
        self,
        mailbox: int,
        removed: Collection[int],
        retrieved: Collection[int],
        action: str,
        cause: Reason,
        change: Change,
        cursor: Cursor,
        _: bool,
    ) -> None:
        box = changes.lock_id(cursor, mailbox)
        found = changes.find_uids(cursor, box, removed)
        if retrieved:
            changes.mark_read(cursor, mailbox, retrieved)
        if found:
            name = audit.name_of(cursor, box.id) if self._audited else ""
            self._apply(cursor, box, found, (action, name, cause), change)

    def mark(self, mailbox: int, retrieved: Collection[int]) -> None:
        """Mark messages as read."""
        self._database.transact(lambda cursor, _: changes.mark_read(cursor, mailbox, retrieved))

    def delete(self, name: str, cause: Reason) -> Contents:
        """Delete a mailbox with all its mail; returns what went, of which an error has ``done``."""
        gone, is_left = Contents(), True
        try:
            while is_left:
                removed: dict[int, Kept] = {}
                is_left = self._database.transact(self._delete_some(name, cause, removed))
                gone = _sum(gone, _contents(removed.values()))
        except GatewayError as error:
            error.after(messages=gone.total.messages, octets=gone.total.octets)
            raise
        return gone

    def _delete_some(
        self, name: str, cause: Reason, removed: dict[int, Kept]
    ) -> Callable[[Cursor, bool], bool]:
        """A transaction that removes some messages, by uid; False: the mailbox, which has none.

        An attempt that was not answered may have happened: what it removed stays in ``removed``.
        """
        was_empty = False

        def work(cursor: Cursor, _: bool) -> bool:
            nonlocal was_empty
            try:
                box = changes.lock(cursor, name, closed_too=True)
            except NoSuchMailbox:
                if was_empty:
                    return False
                raise
            changes.check_alone(cursor, box)
            changes.check_not_held(cursor, box, name)
            for action, hidden in (("purge", True), ("discard", False)):
                found = changes.some(cursor, box, BATCH, hidden=hidden)
                if found:
                    self._apply(cursor, box, found, (action, name, cause), changes.remove)
                    removed.update((kept.uid, kept) for kept in found)
                    return True
            changes.delete(cursor, box, name)
            was_empty = True
            return False

        return work

    def _apply(
        self,
        cursor: Cursor,
        box: Locked,
        found: Sequence[Kept],
        told: tuple[str, str, Reason | None],
        change: Change,
    ) -> None:
        if not found:
            return
        action, name, cause = told
        if cause is not None and self._audited:
            audit.write(cursor, _entries(cursor, box, found, action, name, cause))
        change(cursor, box, [kept.uid for kept in found])


def _entries(
    cursor: Cursor, box: Locked, found: Sequence[Kept], action: str, name: str, cause: Reason
) -> Iterator[Removed]:
    heads = changes.heads(cursor, box, [kept.uid for kept in found])
    for kept in found:
        yield entry(action, name, kept.stored, message_id_in(heads.get(kept.uid, b"")), cause)


def _contents(found: Collection[Kept]) -> Contents:
    shown = [kept.octets for kept in found if kept.hidden is None]
    hidden = [kept.octets for kept in found if kept.hidden is not None]
    return Contents(Usage(sum(shown), len(shown)), Usage(sum(hidden), len(hidden)))


def _sum(one: Contents, other: Contents) -> Contents:
    return Contents(
        *(
            Usage(this.octets + that.octets, this.messages + that.messages)
            for this, that in zip(one, other, strict=True)
        )
    )
