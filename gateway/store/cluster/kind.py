"""The row of ``store.kind = "cluster"``: its settings, and the store that it makes."""

from __future__ import annotations

import hmac
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from attrs import field, frozen

from gateway.config import checks as check
from gateway.config.settings import StoreSettings
from gateway.endpoints import shown
from gateway.interfaces import Run, WatchFor
from gateway.kinds import Fault, SharedAdmission, SharedState, StoreKind, StoreParts, Whole
from gateway.model import Account
from gateway.postgresql.names import check_name
from gateway.units import parse_size

if TYPE_CHECKING:
    from gateway.postgresql.database import Database
    from gateway.store.cluster.bodies.blobs import Blobs
    from gateway.store.cluster.store import ClusterStore


_BUCKET = re.compile(r"/(\w+%3A)?[A-Za-z0-9._-]{3,255}/*", re.ASCII)
"""The path of any bucket: old ones of Ceph and AWS have longer names, capitals and underscores.

Ceph may have a tenant before it, with a colon that the signature has encoded.
"""

_HOST = re.compile(r"[\w.:%-]+", re.ASCII)
"""A name or an address, of IPv6 maybe with a zone."""


def _check_bucket(value: str) -> None:
    wanted, found = "expected https://HOST/BUCKET", f"found {shown(value)}"
    if re.search("[@?#]", value):
        # A password, or the signature of a request: this goes to a log.
        found = "found one with a user or a query, which may be secret"
    try:
        parts = urlsplit(value)
        is_server = parts.port != 0 and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:
        raise ValueError(f"{wanted}, {found}") from None
    path = parts.path.strip("/")
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in ("http", "https") or not (is_server and path and is_plain):
        raise ValueError(f"{wanted}, {found}")
    if "/" in path:
        cure = "give the mail a bucket of its own, without a path in it"
        raise ValueError(f"{wanted}, {found}: {cure}")
    if not _BUCKET.fullmatch(parts.path):
        name = "3 to 255 letters, digits, dots, hyphens and underscores"
        raise ValueError(f"{wanted} with a bucket of {name}, {found}")


SECRET: dict[str, Any] = {"repr": False, "metadata": {check.SECRET: True}}


@frozen
class ClusterSettings(StoreSettings):
    """``[store]`` of ``store.kind = "cluster"``: the database, the bucket, the mailboxes."""

    database: str = ""
    database_password: str = field(default="", **SECRET)
    database_password_file: str = ""
    bucket: str = field(default="", **check.optional(_check_bucket))
    bucket_region: str = field(default="us-east-1", **check.NAME)
    bucket_access_key: str = field(default="", **check.NAME)
    bucket_secret_key: str = field(default="", **SECRET)
    bucket_secret_key_file: str = ""
    bucket_ca_file: str = ""
    bucket_connections: int = field(default=64, **check.within(1, 10_000))
    timeout: float = field(default=10.0, **check.within(1, 300))
    missing: Literal["create", "refuse"] = "create"
    mark_read: bool = True
    shared_sessions: bool = False
    cached_messages: int = field(default=2_000_000, **check.within(0, 2**40))
    audit_days: int = field(default=90, **check.within(0, 36_500))
    body_cache: str = ""
    body_cache_size: str = field(default="1 GB", **check.SOME_SIZE)


LIMITS_WITHIN = 2.0
"""Seconds for each question of admission: a login goes on without the answer."""


def _nobody(_: str) -> None:
    """Watches nothing."""


def make_database(
    own: ClusterSettings, watch: WatchFor = _nobody, *, within: float = math.inf
) -> Database:
    """The database of these settings, with the schema that this pop3gw needs.

    ``within``: the most seconds for each call.
    """
    from gateway.postgresql.database import Database
    from gateway.postgresql.migrate import check_version

    return Database(
        own.database,
        timeout=min(own.timeout, within),
        password=own.database_password,
        check=check_version,
        watch=watch,
    )


def make_blobs(
    own: ClusterSettings,
    reactor: Any,
    path_of: Callable[[str], str],
    watch: WatchFor = _nobody,
    attempts: int | None = None,
) -> Blobs:
    """The bodies in the bucket of these settings.  Raises ``ValueError``.

    ``attempts``: at each request; None: as many as sessions wait for.
    """
    from gateway.s3.requests import ATTEMPTS, Requests
    from gateway.s3.signing import Signer
    from gateway.s3.transport import make_connections
    from gateway.store.cluster.bodies.blobs import Blobs

    connections = make_connections(
        reactor,
        own.bucket,
        connections=own.bucket_connections,
        timeout=own.timeout,
        authorities=path_of(own.bucket_ca_file) if own.bucket_ca_file else "",
    )
    signer = Signer(own.bucket_region, own.bucket_access_key, own.bucket_secret_key)
    requests = Requests(
        reactor,
        connections,
        signer,
        own.bucket,
        timeout=own.timeout,
        attempts=attempts or ATTEMPTS,
        watch=watch,
    )
    return Blobs(requests)


def _make(own: ClusterSettings, parts: StoreParts) -> ClusterStore:
    # Commands that read the settings only need neither engine.
    from gateway.store.cluster.bodies.body_cache import BodyCache
    from gateway.store.cluster.in_time import in_time
    from gateway.store.cluster.store import ClusterOptions, ClusterStore

    if parts.reactor is None:
        raise ValueError("kind: a cluster is made of a running server only")
    options = ClusterOptions(
        create=own.missing == "create",
        exclusive=parts.exclusive,
        mark_read=own.mark_read,
        count_hidden=parts.count_hidden,
        convert_cr=own.bare_cr == "convert",
        cached_messages=own.cached_messages,
        audit_days=own.audit_days,
        timeout=own.timeout,
    )
    with ExitStack() as made:
        database = make_database(own, parts.watch)
        made.callback(database.close)
        blobs = make_blobs(own, parts.reactor, parts.path_of, parts.watch)
        made.callback(blobs.close)
        cache = None
        if own.body_cache:
            octets = parse_size(own.body_cache_size)
            cache = BodyCache(parts.path_of(own.body_cache), octets, parts.run)
        store = ClusterStore(
            parts.reactor,
            database,
            blobs,
            in_time(parts.run, own.timeout),
            options=options,
            cache=cache,
            admit=parts.admit,
            deliver=in_time(parts.deliver, own.timeout),
            patient=parts.run,
            emit=parts.emit,
        )
        # From here on the store closes them.
        made.pop_all()
    return store


def _make_state(own: ClusterSettings, run: Run, watch: WatchFor) -> SharedState:
    from gateway.state.cluster.leader import ClusterLeader
    from gateway.state.cluster.state import ClusterState

    database = make_database(own, watch)
    state, leader = ClusterState(database, run), ClusterLeader(database, run)
    return SharedState(state, leader, state.close_now)


def _make_admission(own: ClusterSettings, watch: WatchFor) -> SharedAdmission:
    from gateway.state.cluster.limits import ClusterLimits

    limits = ClusterLimits(make_database(own, watch, within=LIMITS_WITHIN))
    return SharedAdmission(limits, own.shared_sessions, _key_of)


def _key_of(own: ClusterSettings) -> bytes:
    # Not the secret itself: whoever learns this key cannot sign requests.
    return hmac.digest(own.bucket_secret_key.encode(), b"pop3gw wrong passwords", "sha256")


def missing_driver() -> str:
    """What has to be installed first, and how; empty: nothing."""
    for name in ("psycopg", "httptools"):
        try:
            import_module(name)
        except ImportError:
            return f"needs {name}: pip install 'pop3gw[cluster]'"
    return ""


def _faults(own: ClusterSettings, _: Whole) -> Iterator[Fault]:
    needed = {
        "database": "a connection string such as postgresql://gateway@db.example.org/mail",
        "bucket": "an address such as https://s3.example.org/mail",
        "bucket_access_key": "the access key of the bucket's user",
        "bucket_secret_key": "a secret key, or bucket_secret_key_file",
    }
    for name, wanted in needed.items():
        if not getattr(own, name):
            yield f"store.{name}", f"expected {wanted}, and missing"
    if missing := missing_driver():
        yield "store.kind", missing
        return
    from gateway.postgresql.conninfo import parsed, secrets_in

    try:
        words = parsed(own.database)
    except ValueError as error:
        yield "store.database", str(error)
        return
    for key in secrets_in(words):
        if key == "password":
            yield "store.database", "has a password: move it to store.database_password_file"
        else:
            cure = "move it to a service file that only pop3gw can read, and name it by service="
            yield "store.database", f"has {key}, which is secret: {cure}"


def _check_account(_own: ClusterSettings, _state_dir: str, account: Account) -> None:
    check_name(account.mailbox)


CLUSTER = StoreKind(
    settings=ClusterSettings,
    make=_make,
    make_state=_make_state,
    make_admission=_make_admission,
    keeps_audit=True,
    faults=_faults,
    check_name=check_name,
    check_account=_check_account,
)
