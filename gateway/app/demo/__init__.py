"""The demo account with a few messages, created at the first start."""

from __future__ import annotations

from importlib.resources import files

from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure

from gateway.config.settings import Settings
from gateway.interfaces import IDelivery, IMailboxes
from gateway.kinds import StoreParts
from gateway.model import Account, Limits
from gateway.store.audited import no_audit, no_limits

ACCOUNT = "alice@example.org"
PASSWORD = "wonderland"

_MESSAGES = ("welcome.eml", "dots.eml", "html.eml")


def make_demo(settings: Settings) -> None:
    """Create the account and its mailbox with mail, if missing.

    Raises ``OSError``, and as a store fails.
    """
    directory = settings.directory_kind
    if directory.add_account is not None:
        directory.add_account(settings.of(directory), settings, ACCOUNT, PASSWORD)
    parts = StoreParts(
        state_dir=settings.state_dir,
        run=execute,
        deliver=execute,
        admit=no_limits,
        audit=no_audit,
        high_water=lambda _place, least: least,
    )
    store = IDelivery(settings.store_kind.make(settings.store, parts), None)
    if store is not None:
        failures: list[Failure] = []
        Deferred.fromCoroutine(_deliver(store)).addErrback(failures.append)
        for failure in failures:
            failure.raiseException()


async def _deliver(store: IDelivery) -> None:
    account = Account(name=ACCOUNT, mailbox=ACCOUNT)
    mailboxes: IMailboxes | None = IMailboxes(store, None)
    if mailboxes is None or await mailboxes.present([account]):
        return
    for name in _MESSAGES:
        incoming = await store.receive(account)
        await incoming.write(files(__name__).joinpath(name).read_bytes())
        await incoming.commit(account, Limits())
        await incoming.close()


def hints(settings: Settings) -> list[str]:
    """How to try the demo account, if there is one."""
    if not settings.demo:
        return []
    ports = [
        listener.endpoint.split(":")[1]
        for listener in settings.listeners.values()
        if listener.tls != "implicit" and listener.endpoint.startswith("tcp:")
    ]
    place = f"127.0.0.1:{ports[0]}" if ports else "..."
    return [f"try it: curl -u {ACCOUNT}:{PASSWORD} pop3://{place}/1"]
