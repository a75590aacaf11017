"""The operator's API: a klein application that serves the table of routes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote, unquote, unquote_to_bytes

from attrs import asdict, evolve, has
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    NotFound,
    Overloaded,
    TooManyGuesses,
)
from gateway.events import Emit, OperationDone
from gateway.http.access import Caller
from gateway.http.openapi import description_of
from gateway.http.parameters import arguments_of, names_in
from gateway.http.probes import PROBES, Probe
from gateway.http.problems import CONTENT_TYPE, kind_of, problem_of
from gateway.http.routes import Route
from gateway.http.site import BoundedRequest
from gateway.model import Scope
from gateway.observe.failures import complain
from gateway.operations.tools import Tools
from gateway.operations.values import Text

log = Logger()

MANY = 50
"""Items of a list from which on a thread encodes the answer: 1,000 rows take 30 ms."""

_IN_QUERY = (b"token", b"access_token", b"authorization", b"password")
"""Parameters that have no place in a URL: it is logged by proxies and kept by browsers."""


class FindCaller(Protocol):
    """Finds who asks."""

    def __call__(self, request: BoundedRequest) -> Caller:
        """The caller; raises ``NotLetIn`` or ``TooManyGuesses``."""


class Api:
    """Serves operations."""

    def __init__(
        self,
        routes: Sequence[Route],
        tools: Callable[[], Tools],
        find_caller: FindCaller,
        emit: Emit,
    ) -> None:
        """``tools``: of the settings in force."""
        self._tools = tools
        self._find_caller = find_caller
        self._emit = emit
        # It imports the reactor: too early for a process that forks workers, or may choose one.
        from klein import Klein

        self.application = Klein()
        # No redirect to another path.
        self.application.url_map.merge_slashes = False
        for route in (*routes, description_of(routes)):
            self._add(route)
        for path, probe in PROBES.items():
            self._add_probe(path, probe)
        self.application.handle_errors(HTTPException)(self._not_routed)

    def _add(self, route: Route) -> None:
        path = route.path
        for name in names_in(path):
            path = path.replace(f"{{{name}}}", f"<{name}>")

        def serve(request: BoundedRequest, **quoted: str) -> Deferred[bytes]:
            in_path = {name: unquote(value) for name, value in quoted.items()}
            return self.answer(request, lambda: self._perform(route, request, in_path))

        # HEAD comes with GET.
        endpoint = f"{route.method} {route.path}"
        register = self.application.route(
            path, methods=[route.method], endpoint=endpoint, strict_slashes=False
        )
        register(serve)

    def _not_routed(self, request: Any, failure: Failure) -> Deferred[bytes]:
        """No route fits."""
        error = failure.value
        if isinstance(error, MethodNotAllowed):
            methods = ", ".join(sorted(error.valid_methods or ()))
            request.set("allow", methods)
            problem = {"type": "about:blank", "status": 405, "title": "Method not allowed"}
            return _sent(request, 405, problem | {"detail": f"expected {methods}"})

        async def nothing() -> Any:
            raise NotFound("no operation has this path; GET /v1/openapi.json lists them all")

        return self.answer(request, nothing)

    @property
    def first_words(self) -> set[str]:
        """The first words of all paths, those of probes too."""
        return {rule.rule.split("/")[1] for rule in self.application.url_map.iter_rules()}

    def answer(self, request: BoundedRequest, work: Callable[[], Any]) -> Deferred[bytes]:
        """The octets of an answer to a request: what ``work`` returns, or its problem."""
        # An operation goes on when its client leaves: it is whole, or says what it did.
        done: Deferred[bytes] = Deferred(lambda _: None)
        running = Deferred.fromCoroutine(self._answered(request, work))
        running.addCallback(lambda body: None if done.called else done.callback(body))
        running.addErrback(lambda failure: log.failure("internal error: request", failure))
        return done

    async def _answered(self, request: BoundedRequest, work: Callable[[], Any]) -> bytes:
        try:
            value = await work()
            if isinstance(value, Text):
                return _octets(request, 200, value.octets, value.content_type)
            return _octets(request, 200, await self._encoded(value), "application/json")
        except Exception as error:
            if kind_of(error).status >= 500:
                id_, path = request.connection.id, request.shown_path
                complain(log, "session {id}: {path}", Failure(), id=id_, path=path)
            return _refused(request, error)

    async def _encoded(self, value: Any) -> bytes:
        if _length(value) > MANY:
            with suppress(Overloaded):
                encoded: bytes = await self._tools().run(lambda: _json(as_json(value)))
                return encoded
        return _json(as_json(value))

    def _add_probe(self, path: str, probe: Probe) -> None:
        async def probed(request: BoundedRequest) -> bytes:
            status, value = await probe(self._tools(), self._may_know(request))
            return _content(request, status, value, "application/json")

        self.application.route(path, methods=["GET"], endpoint=path)(probed)

    def _may_know(self, request: BoundedRequest) -> bool:
        """Whether the client of a probe, which needs no token, may read reasons."""
        if request.is_from_here:
            return True
        try:
            return bool(self._find_caller(request).scopes - {Scope.QUOTA})
        except GatewayError:
            return False

    async def _perform(
        self, route: Route, request: BoundedRequest, in_path: Mapping[str, str]
    ) -> Any:
        check(request)
        caller = self._find_caller(request)
        request.operator, request.may_read = caller.name, caller.may(Scope.READ)
        caller.check(route.scope)
        arguments = arguments_of(route, in_path, request.args, request.sent_body)
        tools = evolve(self._tools(), operator=caller.name)
        if not route.is_change:
            return await route.operation(tools, **arguments)
        outcome = "internal error"
        try:
            value = await route.operation(tools, **arguments)
            outcome = "done"
        except GatewayError as error:
            outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            target = " ".join(in_path.values())
            name = route.operation.__name__
            self._emit(OperationDone(caller.name, name, target, outcome))
        return value


class ApiResource(Resource):
    """The application as a resource of twisted.web."""

    isLeaf = True

    def __init__(self, api: Api) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._resource = api.application.resource()
        self._api = api

    def render(self, request: Any) -> Any:
        """Answer a request, if its path and host can be read.

        A slash within a parameter is %2F, and no separator: klein gets each part quoted.
        """
        if not request.header("host").isascii():
            # RFC 9112 section 3.2.  klein would log each with a traceback.
            return _refused(request, BadRequest(["host: expected ASCII"]))
        parts = request.uri.partition(b"?")[0].split(b"/")[1:]
        try:
            whole = [unquote_to_bytes(part).decode("utf-8") for part in parts]
        except UnicodeDecodeError:
            return _refused(request, BadRequest(["path: expected UTF-8"]))
        request.postpath = [quote(part, safe="").encode("ascii") for part in whole]
        return self._resource.render(request)


def check(request: BoundedRequest) -> None:
    """Raise for what no operation takes."""
    if request.is_too_large:
        raise BodyTooLarge("expected a smaller body; nothing was done")
    if any(name.lower() in _IN_QUERY for name in request.args):
        raise BadRequest(["expected no secret in a URL: send it as Authorization: Bearer TOKEN"])
    content_type = (request.header("content-type") or "application/json").partition(";")[0]
    if request.sent_body and content_type.strip().lower() != "application/json":
        raise BadRequest([f"content-type: expected application/json, found {content_type[:60]}"])


def _length(value: Any) -> int:
    """Of the longest list in the value of an operation."""
    parts = value.__attrs_attrs__ if has(type(value)) else ()
    found = [value, *(getattr(value, part.name) for part in parts)]
    return max((len(one) for one in found if isinstance(one, tuple | list)), default=0)


def as_json(value: Any) -> Any:
    """A value of an operation in the terms of JSON."""
    if has(type(value)):
        return asdict(value, value_serializer=lambda _, __, one: as_json(one))
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: as_json(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        listed = [as_json(one) for one in value]
        return sorted(listed) if isinstance(value, set | frozenset) else listed
    return value


def _refused(request: BoundedRequest, error: BaseException) -> bytes:
    problem = problem_of(error)
    status = problem["status"]
    if status >= 500 and not request.may_read:
        # What is wrong with a back-end is for operators.
        problem = {name: problem[name] for name in ("type", "status", "title")}
    if status == 401:
        request.set("www-authenticate", 'Bearer realm="pop3gw"')
    if isinstance(error, TooManyGuesses):
        request.set("retry-after", "60")
    return _content(request, status, problem, CONTENT_TYPE)


def _sent(request: BoundedRequest, status: int, problem: dict[str, Any]) -> Deferred[bytes]:
    done: Deferred[bytes] = Deferred()
    done.callback(_content(request, status, problem, CONTENT_TYPE))
    return done


def _content(request: BoundedRequest, status: int, value: Any, content_type: str) -> bytes:
    return _octets(request, status, _json(value), content_type)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _octets(request: BoundedRequest, status: int, body: bytes, content_type: str) -> bytes:
    request.set("content-type", content_type)
    request.set("cache-control", "no-store")
    request.set("x-content-type-options", "nosniff")
    request.setResponseCode(status)
    if status == 200 and request.method in (b"GET", b"HEAD"):
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'.encode("ascii")
        if request.setETag(tag):
            return b""
    request.set("content-length", str(len(body)))
    return b"" if request.method == b"HEAD" else body
