"""GSSAPI with Kerberos V5 (RFC 4752): a ticket in place of a password, client first."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    DirectoryMisconfigured,
    GatewayError,
    MechanismFailed,
)
from gateway.interfaces import Challenge, IMechanism, Proven, Run
from gateway.printable import printable
from gateway.sasl.credentials import GssName

TOKEN_LIMIT = 65_536
"""Most octets of a client's token; an Active Directory ticket may have 48 KiB of groups."""

_NO_LAYER = b"\1\0\0\0"
"""No security layer, hence no size (RFC 4752 section 3.3): TLS does that work."""

_NOT_INSTALLED = "GSSAPI needs the package gssapi: pip install 'pop3gw[kerberos]'"

# From krb5.h; the library returns them as unsigned 32-bit numbers.
_NOT_US, _WRONG_PRINC, _KT_NOTFOUND = -1765328349, -1765328240, -1765328203
_FOR_ANOTHER_SERVICE = frozenset({_NOT_US, _WRONG_PRINC, _KT_NOTFOUND})
_KT_IOERR, _KT_FORMAT = -1765328200, -1765328149
_RC_IO, _RC_IO_PERM, _RC_IO_IO, _RC_IO_SPACE = -1765328220, -1765328215, -1765328214, -1765328212

# Errors of keytab and replay cache.  Only file errors count as faults of the
# server: a malformed token of a client gives EINVAL, too.
_PASSING = frozenset(
    {
        *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT),
        *(_KT_IOERR, _RC_IO, _RC_IO_IO, _RC_IO_SPACE),
    }
)
_TO_BE_MENDED = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EROFS),
        *(_KT_FORMAT, _RC_IO_PERM),
    }
)

_GSS_S_FAILURE = 13 << 16
"""The major status that only refers to the minor one."""


@frozen
class GssAcceptor:
    """Accepts tickets for a set of services, by the keys of a keytab.

    The keytab may be replaced at any time.
    """

    keytab: str
    """A path."""

    services: tuple[str, ...] = ("pop", "POP", "pop3", "POP3")
    """First components of service principals.  Kerberos compares case; Active Directory may
    have upper case."""

    replays: str = ""
    """Path of the replay cache, made when missing; empty: the library's own, one for all
    services of this user id, in ``KRB5RCACHEDIR``, ``TMPDIR`` or ``/var/tmp``."""

    # There is always a replay cache.  Without mutual authentication nothing in
    # the exchange depends on the server: an eavesdropper could replay a login,
    # the wrapped answer included.

    def credentials(self) -> tuple[Any, ...]:
        """GSS credentials, one for each service that the keytab has a key of.

        Fails with ``DirectoryMisconfigured`` when there is none.  Blocks.
        """
        _library()
        try:
            with open(self.keytab, "rb") as file:
                state = os.fstat(file.fileno())
        except OSError as error:
            raise DirectoryMisconfigured(f"keytab {self.keytab}: {error.strerror}") from None
        return _acquired(self, (state.st_ino, state.st_size, state.st_mtime_ns))


# Cached until the keytab changes: the library asks DNS for this
# host's name each time, and loses some memory over a service that has no key.
@lru_cache(maxsize=4)
def _acquired(acceptor: GssAcceptor, _: tuple[int, ...]) -> tuple[Any, ...]:
    raw = _library()
    store = {b"keytab": b"FILE:" + os.fsencode(acceptor.keytab)}
    if acceptor.replays:
        store[b"rcache"] = b"file2:" + os.fsencode(acceptor.replays)
    found = []
    trouble = "no service is accepted"
    for service in acceptor.services:
        # Not one for the whole keytab: all services of a computer in Active
        # Directory share a key, the first entry with it opens the ticket, and
        # the context then names that entry, be it imap/ or host/.
        try:
            name = raw.import_name(service.encode(), raw.NameType.hostbased_service)
            acquired = raw.acquire_cred_from(store, name, None, [raw.MechType.kerberos], "accept")
            found.append(acquired.creds)
        except raw.GSSError as error:
            trouble = _words(error)
    if not found:
        services = ", ".join(acceptor.services)
        raise DirectoryMisconfigured(f"keytab {acceptor.keytab}: no key of {services}: {trouble}")
    return tuple(found)


def check(acceptor: GssAcceptor) -> list[str]:
    """Problems that keep the server from accepting tickets, one line each."""
    try:
        acceptor.credentials()
    except DirectoryMisconfigured as error:
        return [str(error)]
    return []


@implementer(IMechanism)
class Gssapi:
    """One exchange of GSSAPI."""

    def __init__(self, acceptor: GssAcceptor, run: Run) -> None:
        """``run`` does work that reads the keytab or writes the replay cache."""
        self._acceptor = acceptor
        self._run = run
        self._next: Callable[[Gssapi, bytes], Challenge | Proven] = Gssapi._accept
        self._credential: Any = None
        self._context: Any = None
        self._principal = ""

    def step(self, response: bytes | None) -> Deferred[Challenge | Proven]:
        """Exchange tokens until the context is established, then offer no security layer.

        Fails as every mechanism does, and with ``DirectoryMisconfigured`` or
        ``DirectoryDown`` for errors of the keytab or the replay cache.
        """
        if response is None:
            return succeed(Challenge(b""))
        if len(response) > TOKEN_LIMIT:
            return fail(MechanismFailed(f"a GSSAPI token of {len(response)} octets"))
        return self._run(lambda: self._step(response))

    def _step(self, response: bytes) -> Challenge | Proven:
        raw = _library()
        step, self._next = self._next, Gssapi._is_over
        try:
            return step(self, response)
        except raw.GSSError as error:
            raise self._failure(raw, error) from None
        except UnicodeDecodeError:
            raise BadCredentials("a principal that is not UTF-8") from None

    def _accept(self, token: bytes) -> Challenge | Proven:
        if not token:
            raise MechanismFailed("GSSAPI needs a token")
        taken = self._begin(token) if self._context is None else self._go_on(token)
        self._context = taken.context
        if taken.more_steps:
            self._next = Gssapi._accept
            return Challenge(taken.token or b"")
        self._check_context(taken)
        if taken.token:
            self._next = Gssapi._offer
            return Challenge(taken.token)
        return self._offer(b"")

    def _begin(self, token: bytes) -> Any:
        raw = _library()
        refused: Exception | None = None
        for credential in self._acceptor.credentials():
            self._credential = credential
            try:
                return self._go_on(token)
            except raw.GSSError as error:
                if _minor(error) not in _FOR_ANOTHER_SERVICE:
                    raise
                refused = error
        assert refused is not None
        raise refused

    def _go_on(self, token: bytes) -> Any:
        return _library().accept_sec_context(token, self._credential, self._context)

    def _check_context(self, taken: Any) -> None:
        raw = _library()
        if taken.mech != raw.MechType.kerberos:
            raise BadCredentials("the context is not of Kerberos V5")
        if raw.RequirementFlag.integrity not in taken.flags:
            raise BadCredentials("the context has no integrity protection")
        target = _display(raw, raw.inquire_context(self._context).target_name)
        service, slash, _ = target.partition("/")
        if not slash or service not in self._acceptor.services:
            raise BadCredentials(f"the ticket is for {printable(target)}")
        self._principal = _display(raw, taken.initiator_name)
        if not self._principal.isprintable():
            # A principal of another realm: ours has no such users.
            raise BadCredentials(f"the ticket is of {printable(self._principal)}")

    def _offer(self, response: bytes) -> Challenge | Proven:
        if response:
            raise MechanismFailed("GSSAPI needs an empty response to the last token")
        self._next = Gssapi._finish
        return Challenge(_library().wrap(self._context, _NO_LAYER, False).message)

    def _finish(self, token: bytes) -> Challenge | Proven:
        # Every status but COMPLETE is an error, replayed and out of sequence
        # included.
        answer = _library().unwrap(self._context, token).message
        if len(answer) < 4:
            raise MechanismFailed("the answer about security layers has less than four octets")
        if answer[0] != _NO_LAYER[0]:
            raise MechanismFailed(f"security layer {answer[0]} was not offered")
        if any(answer[1:4]):
            raise MechanismFailed("a size although there is no security layer")
        acts_as = answer[4:]
        try:
            acts_as.decode("utf-8")
        except UnicodeDecodeError:
            raise MechanismFailed("the authorization identity is not UTF-8") from None
        if b"\0" in acts_as:
            raise MechanismFailed("the authorization identity has a NUL")
        return Proven(GssName(self._principal, acts_as))

    def _is_over(self, _: bytes) -> Challenge | Proven:
        raise MechanismFailed("the exchange is over")

    def _failure(self, raw: Any, error: Any) -> GatewayError:
        words = _words(error)
        grammar = (
            raw.InvalidTokenError,
            raw.BadMechanismError,
            raw.ParameterReadError,
            # The client asked for a mechanism without a credential, such as SPNEGO.
            raw.MissingCredentialsError,
        )
        place = f"keytab {self._acceptor.keytab} or its replay cache: {words}"
        if _minor(error) in _TO_BE_MENDED:
            return DirectoryMisconfigured(place)
        if _minor(error) in _PASSING:
            return DirectoryDown(place)
        return (MechanismFailed if isinstance(error, grammar) else BadCredentials)(words)


def _library() -> Any:
    # Imported when needed: it requires a C library that only this mechanism uses.
    try:
        import gssapi.raw
    except ImportError as error:
        raise DirectoryMisconfigured(f"{_NOT_INSTALLED} ({error})") from None
    return gssapi.raw


def _display(raw: Any, name: Any) -> str:
    return str(raw.display_name(name).name.decode("utf-8")) if name is not None else ""


def _minor(error: Any) -> int:
    """The minor status as a signed number, as in krb5.h."""
    code = int(error.min_code)
    return code - (1 << 32) if code >> 31 else code


def _words(error: Any) -> str:
    """The library's text of the error, in one printable line; call it in the failing thread."""
    words = error.get_all_statuses(error.min_code, False) if error.min_code else []
    if not words or error.maj_code != _GSS_S_FAILURE:
        words = [*error.get_all_statuses(error.maj_code, True), *words]
    return printable(": ".join(words))
