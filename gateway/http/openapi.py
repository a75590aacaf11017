"""The description of the operator's API (OpenAPI 3.1), made of the table of routes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import gateway
from gateway.http.parameters import LARGEST, MOST_TEXT, TEXT, Parameter, parameters_of
from gateway.http.probes import PROBES, Probe
from gateway.http.problems import CONTENT_TYPE, KINDS, UNFORESEEN
from gateway.http.routes import INCLUDED, Route
from gateway.http.schemas import Schema, Schemas, text_of
from gateway.model import Scope
from gateway.operations.tools import Tools
from gateway.operations.values import Text

_PROBLEM = {"$ref": "#/components/responses/Problem"}

_STATUSES = sorted({int(kind.status) for kind in (*KINDS.values(), UNFORESEEN)})

_PROBLEM_SCHEMA: Schema = {
    "type": "object",
    "description": "Why an operation did not succeed (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "detail": {"type": "string", "description": "What happened, and the cure."},
        "kind": {"type": "string", "description": "The name of the error, for programs."},
        "problems": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Each fault of the request or the configuration.",
        },
        "done": {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "How much was done before it failed: messages, octets, mailboxes.",
        },
    },
    "required": ["type", "status", "title"],
}


def description_of(routes: Iterable[Route]) -> Route:
    """The row of what describes the API with these routes, and itself."""

    async def describe(tools: Tools) -> Mapping[str, Any]:  # noqa: ARG001
        """Describe this API in the terms of OpenAPI 3.1."""
        return document(whole)

    row = Route("GET", "/v1/openapi.json", Scope.READ, describe)
    whole = (*routes, row)
    return row


@cache
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The whole description."""
    schemas = Schemas()
    schemas.components["Problem"] = _PROBLEM_SCHEMA
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    for path, probe in PROBES.items():
        paths[path] = {"get": _probe(probe)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pop3gw",
            "version": gateway.__version__,
            "description": "The operator's API. Times are Unix seconds, sizes octets.",
        },
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {
                "Problem": {
                    "description": "The operation did not succeed.",
                    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `[http.tokens.NAME]`; the control socket needs none",
                }
            },
        },
    }


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    parameters = parameters_of(route.operation, route.path)
    in_url = [one for one in parameters if one.in_path or not route.is_change]
    in_body = [one for one in parameters if one not in in_url]
    description = text_of(route.operation.__doc__)
    scopes = [one.value for one in Scope if route.scope in INCLUDED[one]]
    operation = route.operation
    found: dict[str, Any] = {
        "operationId": f"{operation.__module__.rpartition('.')[2]}.{operation.__name__}",
        "tags": [_tag(route)],
        "summary": description.partition("\n")[0],
        "description": f"{description}\n\nScope of the token: {' or '.join(scopes)}.",
        "parameters": [_parameter(one, route, schemas) for one in in_url],
        "responses": _responses(route, schemas),
    }
    if in_body:
        found["requestBody"] = {
            "required": any(one.required for one in in_body),
            "content": {"application/json": {"schema": _body(in_body, route, schemas)}},
        }
    return found


def _probe(probe: Probe) -> dict[str, Any]:
    text = text_of(probe.__doc__)
    answer = {"description": "A JSON object.", "content": {"application/json": {}}}
    return {
        "operationId": f"probes.{probe.__name__.removeprefix('_')}",
        "tags": ["healthz"],
        "summary": text.partition("\n")[0],
        "description": text,
        "security": [],
        "responses": {"200": answer, "304": {"description": "It has not changed."}, "503": answer},
    }


def _tag(route: Route) -> str:
    return route.path.removeprefix("/v1").split("/")[1]


def _parameter(one: Parameter, route: Route, schemas: Schemas) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": "path" if one.in_path else "query",
        "required": one.required or one.in_path,
        "schema": _schema(one, route, schemas, in_url=True),
    }


def _body(parameters: Iterable[Parameter], route: Route, schemas: Schemas) -> Schema:
    parameters = list(parameters)
    return {
        "type": "object",
        "properties": {one.name: _schema(one, route, schemas) for one in parameters},
        "required": [one.name for one in parameters if one.required],
        "additionalProperties": False,
    }


def _schema(one: Parameter, route: Route, schemas: Schemas, *, in_url: bool = False) -> Schema:
    hint = get_type_hints(route.operation, include_extras=True)[one.name]
    if in_url and NoneType in get_args(hint):
        # What is not given is null there.
        hint = one.kind if one.bounds is None else _bounded(one)
    schema = schemas.of(hint)
    parts = [schema, *schema.get("anyOf", ())]
    for text in (*parts, *(part["items"] for part in parts if "items" in part)):
        kinds = text.get("type", ())
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "string" in kinds and "enum" not in text:
            text |= {"maxLength": MOST_TEXT, "pattern": TEXT}
        elif "integer" in kinds or "number" in kinds:
            largest = LARGEST[one.kind]
            text.setdefault("minimum", -largest)
            text.setdefault("maximum", largest)
    if one.is_list:
        schema["maxItems"] = MOST_TEXT
    if not (one.required or one.default is None):
        default = one.default
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema


def _bounded(one: Parameter) -> Any:
    return Annotated[one.kind, one.bounds]


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    kind = get_type_hints(route.operation, include_extras=True)["return"]
    content: dict[str, Any] = (
        {"text/plain": {"schema": {"type": "string"}}}
        if kind is Text
        else {"application/json": {"schema": schemas.of(kind)}}
    )
    found: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    if not route.is_change:
        found["304"] = {"description": "As `If-None-Match` has it: nothing has changed."}
    for status in _STATUSES:
        found[str(status)] = _PROBLEM | {"description": HTTPStatus(status).phrase}
    return found


def table(routes: Iterable[Route]) -> str:
    """All routes as a table of Markdown, for ``docs/api.md``."""
    rows = ["| request | scope | what it does |", "|---|---|---|"]
    for route in sorted(routes, key=lambda one: (one.path, one.method)):
        text = inspect.cleandoc(route.operation.__doc__ or "").partition("\n")[0]
        parameters = parameters_of(route.operation, route.path)
        names = ", ".join(f"`{one.name}`" for one in parameters if not one.in_path)
        said = f"{text} ({names})" if names else text
        rows.append(f"| `{route.method} {route.path}` | {route.scope.value} | {said} |")
    return "\n".join(rows) + "\n"
