"""Errors of the operator's API as problem JSON (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

from gateway import errors

CONTENT_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """A row: the answer to a kind of error."""

    status: HTTPStatus
    title: str


KINDS: dict[type[BaseException], Kind] = {
    errors.BadRequest: Kind(HTTPStatus.BAD_REQUEST, "The request is malformed"),
    errors.BadValue: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The values of the request do not fit"),
    errors.BodyTooLarge: Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    errors.NotLetIn: Kind(HTTPStatus.UNAUTHORIZED, "A valid token is required"),
    errors.NotInScope: Kind(HTTPStatus.FORBIDDEN, "The token does not allow this"),
    errors.NotFound: Kind(HTTPStatus.NOT_FOUND, "There is nothing of that name"),
    errors.NoSuchMailbox: Kind(HTTPStatus.NOT_FOUND, "There is no such mailbox"),
    errors.NoSuchUser: Kind(HTTPStatus.NOT_FOUND, "There is no such user"),
    errors.UnknownRecipient: Kind(HTTPStatus.NOT_FOUND, "There is no such recipient"),
    errors.BadMailboxName: Kind(HTTPStatus.NOT_FOUND, "No mailbox can have this name"),
    errors.MessageGone: Kind(HTTPStatus.NOT_FOUND, "The message is gone"),
    errors.RecipientBarred: Kind(HTTPStatus.FORBIDDEN, "The account takes no mail"),
    errors.HomedElsewhere: Kind(HTTPStatus.MISDIRECTED_REQUEST, "Another server has the mailbox"),
    errors.MaildropBusy: Kind(HTTPStatus.CONFLICT, "A session has the mailbox open"),
    errors.MailboxExists: Kind(HTTPStatus.CONFLICT, "There is such a mailbox already"),
    errors.NotConfirmed: Kind(HTTPStatus.PRECONDITION_REQUIRED, "The removal needs a confirmation"),
    errors.OnHold: Kind(HTTPStatus.CONFLICT, "The mailbox is on hold"),
    errors.ConfigError: Kind(HTTPStatus.CONFLICT, "The configuration or the state forbids it"),
    errors.TooManyTraces: Kind(HTTPStatus.CONFLICT, "Too many traces are running"),
    errors.TooManyGuesses: Kind(HTTPStatus.TOO_MANY_REQUESTS, "Too many attempts"),
    errors.NotSupported: Kind(HTTPStatus.NOT_IMPLEMENTED, "The configuration cannot do this"),
    errors.MailboxUnusable: Kind(HTTPStatus.CONFLICT, "The mailbox needs an administrator"),
    errors.LedgerUnusable: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The state needs an administrator"),
    errors.GatewayError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "It does not work at the moment"),
}
"""Looked up by the class of the error and its bases, the nearest first."""

UNFORESEEN = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; the server's log has it")


def kind_of(error: BaseException) -> Kind:
    """The row of an error."""
    return next((KINDS[one] for one in type(error).__mro__ if one in KINDS), UNFORESEEN)


def problem_of(error: BaseException) -> dict[str, Any]:
    """The content of the answer to an error: status, title, and what an operator can do."""
    kind = kind_of(error)
    found: dict[str, Any] = {"type": "about:blank", "status": int(kind.status), "title": kind.title}
    if kind is UNFORESEEN:
        return found
    found["kind"] = type(error).__name__
    lines = getattr(error, "problems", None)
    if lines is not None:
        found["problems"] = list(lines)
    if detail := str(error):
        found["detail"] = detail[:2000]
    done = getattr(error, "done", None)
    if done is not None:
        found["done"] = dict(done)
    return found
