"""The body of a message that is here."""

from __future__ import annotations

from zope.interface import implementer

from gateway.interfaces import IWholeBody
from gateway.store.memory_mailbox import BytesBody


@implementer(IWholeBody)
class WholeBody(BytesBody):
    """A body of which all octets are in memory."""
