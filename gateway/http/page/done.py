"""What a page says after something was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.http.page.words import Words

DONE: Mapping[str, Callable[[Words, int], str]] = {
    "kicked": lambda words, count: words.texts(
        "%(num)s session was closed.", "%(num)s sessions were closed.", count
    ),
    "hidden": lambda words, count: words.texts(
        "%(num)s message is hidden now.", "%(num)s messages are hidden now.", count
    ),
    "restored": lambda words, count: words.texts(
        "%(num)s message is back in the mailbox.",
        "%(num)s messages are back in the mailbox.",
        count,
    ),
    "removed": lambda words, count: words.texts(
        "%(num)s message was removed.", "%(num)s messages were removed.", count
    ),
    "released": lambda words, count: words.texts(
        "%(num)s mailbox is released: retention removes what is due there within a minute.",
        "%(num)s mailboxes are released: retention removes what is due there within a minute.",
        count,
    ),
    "ordered": lambda words, count: words.texts(
        "Retention looks at %(num)s mailbox within a minute.",
        "Retention looks at %(num)s mailboxes within a minute.",
        count,
    ),
    "forgiven": lambda words, count: words.texts(
        "%(num)s wait has ended: the next password is looked at at once.",
        "%(num)s waits have ended: the next password is looked at at once.",
        count,
    ),
    "gone": lambda words, _: words.text("These messages are not there any more."),
    "nothing": lambda words, _: words.text("Nothing was chosen, so nothing was done."),
}
"""A word of the address, and the text; the number comes from the address too."""
