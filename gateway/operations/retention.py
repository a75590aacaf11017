"""Retention: what it would remove, orders to the running server, hidden mail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection

from attrs import frozen

from gateway.errors import ConfigError, GatewayError
from gateway.interfaces import IRetentionStore, IState
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Account, RetentionOrder, StoredMessage
from gateway.retention.policies import Policies
from gateway.retention.preview import Preview
from gateway.retention.preview import preview as preview_of
from gateway.retention.removal_guard import Guard, objection

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


@frozen
class Retained:
    """Mailboxes, what is known of them, and the rules of retention that hold for them."""

    mailboxes: AllMailboxes
    store: IRetentionStore
    state: IState
    policies: Policies
    guard: Guard


@frozen
class NoPreview:
    """A mailbox that a preview has nothing of."""

    mailbox: str
    reason: str
    failed: bool = True
    """False: retention has no policy for it."""


@frozen
class StorePreview:
    """The last value of a preview: all mailboxes together."""

    mailboxes: int
    failed: int
    messages: int
    would_go: int
    stops: str | None
    """Why nothing would be removed before an operator releases it; None: it would."""


async def preview(
    retained: Retained, now: float, mailbox: str | None = None, progress: Progress | None = None
) -> AsyncIterator[Preview | NoPreview | StorePreview]:
    """What retention would remove at ``now`` (Unix seconds); nothing is changed.

    A value for each mailbox that has a policy, or for ``mailbox`` alone, and
    the ``StorePreview``.  Raises ``GatewayError`` where the mailboxes cannot be listed.
    """
    names = [mailbox] if mailbox else await retained.mailboxes.names()
    going = messages = failed = 0
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names))
        try:
            found = await _preview(retained, name, now)
        except GatewayError as error:
            failed += 1
            yield NoPreview(name, str(error))
            continue
        if found is not None:
            going, messages = going + len(found.gone), messages + found.messages
            yield found
        elif mailbox:
            yield NoPreview(name, "retention has no policy for it", failed=False)
    if progress is not None:
        progress(len(names), len(names))
    stops = objection(retained.guard, going, messages, "the store within a day")
    yield StorePreview(len(names), failed, messages, going, stops)


async def _preview(retained: Retained, name: str, now: float) -> Preview | None:
    account = await retained.mailboxes.owner(name)
    text = "" if account is None else retained.policies.text(account)
    if account is None or not text:
        return None
    policy, store = retained.policies.policy(account), retained.store
    kept, hidden = await store.scan_readonly(account), await store.list_hidden(account)
    return preview_of(name, text, policy, kept, hidden, retained.guard, now)


@frozen
class Ordered:
    """A mailbox that the running server will look at."""

    mailbox: str
    released: bool
    stopped: str | None
    """What had stopped the run there; None: nothing had."""


async def run(state: IState, mailbox: str | None, now: float) -> list[Ordered]:
    """Have the running server look at ``mailbox`` at once, or at all mailboxes.

    Raises ``ConfigError`` for a mailbox that retention does not know, and as ``IState`` does.
    """
    return await _order(state, mailbox, now, released=False)


async def release(state: IState, mailbox: str | None, now: float) -> list[Ordered]:
    """As ``run``, and let all that is due there go; None: where the guard has stopped a run."""
    return await _order(state, mailbox, now, released=True)


async def _order(
    state: IState, mailbox: str | None, now: float, *, released: bool
) -> list[Ordered]:
    scans = await state.last_scans()
    if mailbox and mailbox not in scans:
        fault = "retention has not looked there yet: check the name, or wait for its next round"
        raise ConfigError([f"{mailbox}: {fault}"])
    wanted = [name for name, scan in sorted(scans.items()) if scan.stopped or not released]
    names = [mailbox] if mailbox else wanted
    for name in names:
        await state.add_order(name, RetentionOrder(now, released=released))
    return [Ordered(name, released, scans[name].stopped) for name in names]


async def hidden(retained: Retained, mailbox: str) -> list[StoredMessage]:
    """The hidden messages of a mailbox, the first hidden first; ``received``: when it was hidden.

    Raises ``GatewayError``.
    """
    account = await _account(retained, mailbox)
    return sorted(await retained.store.list_hidden(account))


@frozen
class Restored:
    """How many hidden messages came back."""

    mailbox: str
    wanted: int
    restored: int


async def restore(retained: Retained, mailbox: str, uids: Collection[str] = ()) -> Restored:
    """Bring back the hidden messages with these unique-ids; all of them, where none is named.

    Raises ``GatewayError``.
    """
    account = await _account(retained, mailbox)
    wanted = uids or [one.uid for one in await retained.store.list_hidden(account)]
    return Restored(mailbox, len(wanted), await retained.store.restore(account, wanted))


async def _account(retained: Retained, mailbox: str) -> Account:
    account = await retained.mailboxes.find(mailbox)
    if account is None:
        fault = "no account here has it, and only the directory knows its home: check the name"
        raise ConfigError([f"{mailbox}: {fault}"])
    return account
