"""The tables of SASL mechanisms, directory kinds and store kinds: name to row.

To add one, write a file with its row and a line here.  The line has the dotted
name of the row, so that the server imports only what the configuration names.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

import attrs

from gateway.endpoints import shown
from gateway.kinds import DirectoryKind, MechanismKind, StoreKind

MECHANISMS: Mapping[str, str] = {
    "GSSAPI": "gateway.auth.kerberos.GSSAPI",
    "NTLM": "gateway.auth.ntlm.NTLM",
    "PLAIN": "gateway.sasl.mechanisms.PLAIN",
    "LOGIN": "gateway.sasl.mechanisms.LOGIN",
}
"""In the order of CAPA."""

DIRECTORIES: Mapping[str, str] = {
    "passwd-file": "gateway.directory.passwd_kind.PASSWD_FILE",
    "ldap": "gateway.directory.ldap_kind.LDAP",
}

STORES: Mapping[str, str] = {
    "maildir": "gateway.store.maildir.kind.MAILDIR",
    "cluster": "gateway.store.cluster.kind.CLUSTER",
}

R = TypeVar("R", StoreKind[Any], DirectoryKind[Any], MechanismKind[Any])


def find_mechanism(name: str) -> MechanismKind[Any]:
    """The row of a name or dotted name.  Raises ``ValueError`` that says what was expected."""
    return _find(MECHANISMS, name, MechanismKind, "mypackage.sasl.MY_MECHANISM")


def find_directory(name: str) -> DirectoryKind[Any]:
    """The row of a name or dotted name.  Raises ``ValueError`` that says what was expected."""
    return _find(DIRECTORIES, name, DirectoryKind, "mypackage.directory.MY_KIND")


def find_store(name: str) -> StoreKind[Any]:
    """The row of a name or dotted name.  Raises ``ValueError`` that says what was expected."""
    return _find(STORES, name, StoreKind, "mypackage.store.MY_KIND")


def _find(table: Mapping[str, str], name: str, row: type[R], example: str) -> R:
    dotted = table.get(name, name)
    module, _, attribute = dotted.rpartition(".")
    if not (module and all(part.isidentifier() for part in dotted.split("."))):
        known = " or ".join(map(repr, table))
        raise ValueError(
            f"expected {known}, or a dotted name such as {example!r}, found {shown(name)}"
        )
    try:
        found = getattr(import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        cure = "install its package where pop3gw is, or set PYTHONPATH"
        raise ValueError(f"expected {shown(name)} to be importable: {error}; {cure}") from None
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        raise ValueError(f"expected {shown(name)} to be importable: {fault}") from error
    if found is None:
        raise ValueError(f"expected {attribute} in {module}, which has none; check the name")
    if not isinstance(found, row):
        kind, wanted = type(found).__name__, f"gateway.kinds.{row.__name__}"
        raise ValueError(f"expected {shown(name)} to be a {wanted}, found one of type {kind}")
    if not (isinstance(found.settings, type) and attrs.has(found.settings)):
        raise ValueError(f"expected {shown(name)} to have an attrs class as its settings")
    return found
