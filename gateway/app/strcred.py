"""``--auth ldap:URL``: our LDAP checker for every ``twistd`` program that takes ``--auth``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from gateway.auth.passwords import PasswordChecker

_HELP = """\
An LDAP URL (RFC 4516) says where accounts are looked for:

  ldap:ldaps://ldap.example.org/ou=people,dc=example,dc=org
  ldap:ldap://dc1.example.org/dc=example,dc=org??sub?(sAMAccountName={login})?starttls,
       bindname=cn=reader%2cdc=example%2cdc=org,password-file=/etc/reader.password

Users are searched for with the filter, in which {login} stands for the login name, and
the password is right when the server takes it for a bind as the entry that was found.
Extensions, after the filter: starttls; bindname=DN, who searches, and password-file=PATH
with its password; ca-file=PATH, authorities in place of those of the system; map=NAME, one of
openldap, activedirectory, qmail-ldap, samba (its filter is the default of the URL);
mailbox=ATTRIBUTE, which has one value and names the user, in place of mail and uid.
A comma within an extension is %2c. Server certificates are always verified.
"""

_LOGIN_ATTRIBUTES = ("uid", "sAMAccountName")
"""What names the mailbox of an entry that has nothing else to name it."""


@implementer(ICheckerFactory, IPlugin)
class LdapCheckerFactory:
    """Makes a ``PasswordChecker`` in front of an LDAP directory."""

    authType = "ldap"
    authHelp = _HELP
    argStringFormat = "ldap[s]://HOST[:PORT]/BASE[??sub?FILTER[?EXTENSIONS]]"
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argstring: str) -> PasswordChecker:
        """The checker; raises ``InvalidAuthArgumentString`` that says what is wrong."""
        # Every listing of twistd's plugins imports this file, so it imports little.
        from gateway.auth.password_cache import PasswordCache
        from gateway.auth.passwords import PasswordChecker
        from gateway.directory.ldap import LdapDirectory
        from gateway.net.clock import installed_clock

        reach, search, entries = _parse(argstring)
        clock = installed_clock()
        directory = LdapDirectory(
            reach, search, entries, _Lazily(clock), cache_ttl=60.0, now=clock.seconds
        )
        return PasswordChecker(directory, PasswordCache(clock.seconds, ttl=60.0, size=10_000))


def _parse(text: str) -> tuple[Any, Any, Any]:
    from attrs import evolve

    from gateway.directory.entry_map import MAPS
    from gateway.directory.ldap_accounts import Search
    from gateway.directory.ldap_filters import check_filter
    from gateway.directory.ldap_servers import Reach

    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise InvalidAuthArgumentString(f"{text}: {error}") from None
    if parts.scheme not in ("ldap", "ldaps") or not parts.hostname or len(parts.path) < 2:
        raise InvalidAuthArgumentString(f"expected {LdapCheckerFactory.argStringFormat}")
    attributes, scope, wanted, extensions, *rest = [*parts.query.split("?"), "", "", "", ""]
    if attributes or scope not in ("", "sub", "one") or any(rest):
        raise InvalidAuthArgumentString("expected no attributes, and sub or one as the scope")
    said = dict(word.partition("=")[::2] for word in extensions.split(",") if word)
    said = {key.lower(): unquote(value) for key, value in said.items()}
    known = {"starttls", "bindname", "password-file", "ca-file", "map", "mailbox"}
    if unknown := said.keys() - known:
        raise InvalidAuthArgumentString(f"no such extension: {', '.join(sorted(unknown))}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", said.get("mailbox", "mail")):
        raise InvalidAuthArgumentString("expected mailbox= to be the name of an LDAP attribute")
    if said.get("map", "openldap") not in MAPS:
        raise InvalidAuthArgumentString(f"expected map= to be one of {', '.join(MAPS)}")
    wanted = unquote(wanted)
    try:
        if wanted:
            check_filter(wanted)
    except ValueError as error:
        raise InvalidAuthArgumentString(f"the filter {wanted}: {error}") from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    uri = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    reach = Reach(uris=(uri,), start_tls="starttls" in said, ca_file=said.get("ca-file", ""))
    search = Search(
        base=unquote(parts.path[1:]),
        scope="one" if scope == "one" else "subtree",
        filter=wanted,
        bind_dn=said.get("bindname", ""),
        bind_password=_content(said["password-file"]) if "password-file" in said else "",
    )
    entries = MAPS[said.get("map", "openldap")]
    # Who logs in to something else than mail needs no mail address.
    names = (said["mailbox"],) if "mailbox" in said else (*entries.mailbox, *_LOGIN_ATTRIBUTES)
    return reach, search, evolve(entries, mailbox=names)


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().removesuffix("\n")
    except OSError as error:
        raise InvalidAuthArgumentString(f"{path}: {error.strerror}") from None


class _Lazily:
    """Threads that start with their first work and end with the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._run: Callable[[Callable[[], Any]], Deferred[Any]] | None = None

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        if self._run is None:
            from gateway.jobs.thread_pool import ThreadPool

            pool = ThreadPool(self._reactor, "ldap", threads=4, queue=500)
            self._reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
            self._run = pool.run
        return self._run(work)
