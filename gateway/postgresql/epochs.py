"""Epochs: times after which unique-ids go on further, since some that were given may be unknown."""

from __future__ import annotations

from gateway.postgresql.database import Cursor

JUMP = 1_000_000
"""By how much the next uid rises in each new epoch, in which commits may have been lost."""

# In another server the timeline may be lower, or the same: so it is above all epochs of the dump,
# and above one more, of a promotion after it.  The leader sees each epoch, written in or not.
_BEGIN = """\
UPDATE pop3gw.version SET epochs = epochs + %s + 1 - pop3gw.epoch() + greatest(
    pop3gw.epoch(),
    (SELECT max(epoch) FROM pop3gw.mailbox),
    (SELECT max(epoch) FROM pop3gw.former_name),
    (SELECT max(epoch) FROM pop3gw.leader)
)"""


def begin_epoch(cursor: Cursor, by: int) -> None:
    """Let all next uids rise by ``by`` at least, and by one jump more.

    Those of names without a mailbox, too: a restored dump does not know all that there were.
    """
    cursor.execute(_BEGIN, (-(-by // JUMP),))
