"""Delete a whole Maildir with all its folders.  Blocks: call it in a thread.

The order of the steps ensures that no message goes without a line in the audit log, and
that a second run continues after a crash:

1. under the Maildir's ``flock``, folder by folder: write the audit lines of some messages,
   then remove their files;
2. remove all other files and directories, the Maildir's ``cur`` last.  A message that
   another program has delivered meanwhile keeps its directory: begin again.

So a Maildir that has ``cur`` may still have mail, and one without it has none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from attrs import define

from gateway.errors import GatewayError, MailboxUnusable, StoreDown
from gateway.interfaces import Audit
from gateway.model import Contents, Reason, StoredMessage, Usage
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.folders.files import remove
from gateway.store.maildir.folders.place import ALL, FOLDERS, Place
from gateway.store.maildir.folders.scan import EXPIRED, look
from gateway.store.maildir.removal.hidden import hidden_of
from gateway.store.maildir.removal.message_info import entries, look_at, shown_files
from gateway.store.maildir.removal.take_out import in_parts, take_out
from gateway.store.maildir.uids.high_water import Mark
from gateway.store.maildir.uids.uidlist import base_of

DEEPEST = 32
"""Most directories below each other in a Maildir; Dovecot makes 16 at most."""

TRIES = 10
"""Attempts to remove a Maildir that mail arrives in."""

BATCH = 1000
"""Messages with audit lines that are synced to disk together."""

Found = Sequence[tuple[StoredMessage, str]]


@define
class Folder:
    """An open folder, and where it is in the Maildir; empty: the Maildir itself."""

    name: str
    place: Place

    @property
    def is_hidden(self) -> bool:
        """Whether it has the messages that pop3gw hid."""
        return self.name == EXPIRED


def folders_of(maildir: Place) -> Iterator[Folder]:
    """The Maildir and all folders in it; each is open until the next one.

    A directory without ``new`` and ``cur`` is none, nor is what a user linked.  Raises
    ``MailboxUnusable`` or ``OSError``.
    """
    yield from _folders_in(maildir, "", 0)


def _folders_in(place: Place, name: str, depth: int) -> Iterator[Folder]:
    if depth > DEEPEST:
        raise _too_deep(place)
    kinds = [kind for kind in FOLDERS if _is_directory(f"{place.path}/{kind}")]
    if kinds:
        for kind in FOLDERS:
            # A deletion that did not end may have removed one of them.
            place.folder(kind, make=True)
        yield Folder(name, place)
    for below in sorted(os.listdir(place.path)):
        if below not in ALL and _is_directory(f"{place.path}/{below}"):
            with place.visit(below) as inner:
                yield from _folders_in(inner, f"{name}/{below}" if name else below, depth + 1)


def _is_directory(path: str) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def usage_of(folder: Folder) -> Usage:
    """Usage of one folder, from the names and sizes of its files."""
    files, twins = look(folder.place)
    octets = messages = 0
    for file in (*files.values(), *twins):
        with suppress(FileNotFoundError):
            octets += maildirsize.size_on_disk(folder.place.at(file))
            messages += 1
    return Usage(octets, messages)


def contents_of(maildir: Place) -> Contents:
    """All mail of a Maildir, counted now."""
    total = Contents()
    for folder in folders_of(maildir):
        total = _with(total, folder, usage_of(folder))
    return total


def count_in_folders(maildir: Place) -> int:
    """How many messages other folders have, which only IMAP shows."""
    folders = (one for one in folders_of(maildir) if one.name and not one.is_hidden)
    return sum(len(files) + len(twins) for files, twins in (look(one.place) for one in folders))


def _with(total: Contents, folder: Folder, usage: Usage) -> Contents:
    field = "hidden" if folder.is_hidden else "folders" if folder.name else "shown"
    before: Usage = getattr(total, field)
    added = Usage(before.octets + usage.octets, before.messages + usage.messages)
    return total._replace(**{field: added})


class Deletion:
    """The deletion of one open Maildir; the caller holds its ``flock``."""

    def __init__(
        self, maildir: Place, mailbox: str, mark: Mark, audit: Audit, cause: Reason
    ) -> None:
        """``mailbox``: its name in the audit log."""
        self._maildir = maildir
        self._mailbox = mailbox
        self._mark = mark
        self._audit = audit
        self._cause = cause
        self.removed = Contents()
        """The messages that are gone."""

    def run(self) -> None:
        """Remove all mail, and then everything else but the directory of the Maildir.

        Raises ``StoreDown``, ``MailboxUnusable`` or ``OSError``.
        """
        for _ in range(TRIES):
            for folder in folders_of(self._maildir):
                self._empty(folder)
            if self._clear():
                return
        raise StoreDown(f"{self._maildir}: mail keeps arriving: stop its delivery first")

    # -- mail -----------------------------------------------------------------

    def _empty(self, folder: Folder) -> None:
        """Remove the messages of a folder, after a line each in the audit log."""
        found = look_at(folder.place, self._named(folder))
        action = "purge" if folder.is_hidden else "discard"

        def audit(part: Found) -> None:
            self._audit(entries(action, folder.place, self._mailbox, part, self._cause))

        for start in range(0, len(found), BATCH):
            in_parts(found[start : start + BATCH], audit, self._taker(folder))

    def _taker(self, folder: Folder) -> Callable[[Found], int]:
        def take(part: Found) -> int:
            sizes = {_base(file): kept.octets for kept, file in part}
            # Whatever ends the deletion, what is left is counted anew; each time, since Dovecot
            # may have done so meanwhile.
            remove(self._maildir.at(maildirsize.NAME))

            def leave(file: str) -> None:
                folder.place.unlink(file)
                # Each at once: the next one may fail.
                usage = Usage(sizes[_base(file)], 1)
                self.removed = _with(self.removed, folder, usage)

            return take_out(folder.place, [file for _, file in part], leave, counted_in=None)

        return take

    def _named(self, folder: Folder) -> list[tuple[str, str]]:
        """Unique-ids and files of all messages of a folder."""
        if not folder.name:
            shown, others = shown_files(self._maildir, self._mark)
            return [*shown.items(), *((_base(file), file) for file in others)]
        files, twins = look(folder.place)
        every = (*files.values(), *twins)
        if folder.is_hidden:
            hidden = ((hidden_of(file), file) for file in every)
            return [(one.uid if one else _base(file), file) for one, file in hidden]
        return [(f"{folder.name}/{_base(file)}", file) for file in every]

    # -- everything else --------------------------------------------------------

    def _clear(self) -> bool:
        """Remove what is no mail; False: mail has arrived."""
        names = sorted(os.listdir(self._maildir.path), key=lambda name: name == "cur")
        # One after the other: ``cur`` stays if anything else does.
        return all(_cleared(self._maildir, name) for name in names)


def _cleared(above: Place, name: str, depth: int = 0, *, in_folder: bool = True) -> bool:
    """Remove a file, or a directory with all but mail; False: there is mail.

    ``in_folder``: ``above`` may be a folder, and its ``new`` and ``cur`` have its messages.
    """
    path = f"{above.path}/{name}"
    if not _is_directory(path):
        with suppress(FileNotFoundError):
            os.unlink(path)
        return True
    if depth > DEEPEST:
        raise _too_deep(above)
    has_mail = in_folder and name in FOLDERS
    with above.visit(name) as place:
        for below in os.listdir(place.path):
            if not (has_mail and _may_be_mail(f"{place.path}/{below}")):
                _cleared(place, below, depth + 1, in_folder=in_folder and name not in ALL)
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _too_deep(place: Place) -> MailboxUnusable:
    return MailboxUnusable(f"{place}: directories are nested deeper than {DEEPEST}: move them away")


def _may_be_mail(path: str) -> bool:
    if path.rpartition("/")[2].startswith("."):
        return False
    with suppress(FileNotFoundError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _base(file: str) -> str:
    return base_of(file.rpartition("/")[2])


def interrupted(
    kind: type[GatewayError], error: GatewayError | OSError, removed: Contents
) -> GatewayError:
    """The error for one that ended a deletion, with what was done before."""
    done = removed.total
    return kind(
        f"{error}; {done.messages} messages of {done.octets} octets were removed before,"
        " each with its line in the audit log; run it again to go on"
    ).after(messages=done.messages, octets=done.octets)
