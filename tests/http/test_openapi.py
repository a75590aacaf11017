"""The description of the operator's API, held against the code."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from gateway.http.openapi import description_of, document, table
from gateway.http.parameters import parameters_of
from gateway.http.probes import PROBES
from gateway.http.problems import KINDS
from gateway.http.routes import ROUTES
from gateway.http.schemas import Schemas
from gateway.operations.tools import Tools
from gateway.operations.values import Page

API = Path(__file__).parents[2] / "docs" / "api.md"
WHOLE = (*ROUTES, description_of(ROUTES))


def schemas_in(value: Any) -> Iterator[str]:
    """All references."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for one in value.values():
            yield from schemas_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from schemas_in(one)


@frozen
class Pair:
    """Of no type that JSON has."""

    pair: tuple[int, str]


class DocumentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.document = document(WHOLE)

    def operation(self, method: str, path: str) -> Mapping[str, Any]:
        """One operation."""
        found: Mapping[str, Any] = self.document["paths"][path][method.lower()]
        return found

    def test_all_operations_and_probes_are_described_and_no_others(self) -> None:
        described = {
            (method.upper(), path)
            for path, methods in self.document["paths"].items()
            for method in methods
        }
        probes = {("GET", path) for path in PROBES}
        self.assertEqual(described, {(one.method, one.path) for one in WHOLE} | probes)

    def test_each_parameter_is_described_where_it_is_given(self) -> None:
        for route in WHOLE:
            said = self.operation(route.method, route.path)
            given = {(one["name"], one["in"]) for one in said["parameters"]}
            body = said.get("requestBody", {"content": {}})["content"]
            if body:
                properties = body["application/json"]["schema"]["properties"]
                given |= {(name, "body") for name in properties}
            elsewhere = "body" if route.is_change else "query"
            self.assertEqual(
                given,
                {
                    (one.name, "path" if one.in_path else elsewhere)
                    for one in parameters_of(route.operation, route.path)
                },
                route.path,
            )

    def test_a_list_that_may_be_left_out_has_the_limits_of_one_that_may_not(self) -> None:
        path = "/v1/mailboxes/{mailbox}"
        hide, restore = (
            self.operation("POST", f"{path}/{what}")["requestBody"]["content"]["application/json"]
            for what in ("hide", "restore")
        )
        items = hide["schema"]["properties"]["uids"]["items"]
        uids = restore["schema"]["properties"]["uids"]
        self.assertIn("pattern", items)
        self.assertEqual(uids["anyOf"], [{"type": "array", "items": items}, {"type": "null"}])
        self.assertNotIn("uids", restore["schema"]["required"])

    def test_each_status_of_an_error_is_described(self) -> None:
        statuses = {str(int(kind.status)) for kind in KINDS.values()} | {"200"}
        for route in WHOLE:
            said = self.operation(route.method, route.path)
            self.assertLessEqual(statuses, said["responses"].keys())

    def test_every_reference_leads_somewhere_and_every_schema_is_used(self) -> None:
        used = set(schemas_in(self.document))
        for reference in used:
            value = self.document
            for part in reference.removeprefix("#/").split("/"):
                value = value[part]
        known = {f"#/components/schemas/{one}" for one in self.document["components"]["schemas"]}
        self.assertEqual(known - used, set())

    def test_names_of_operations_are_unique_and_each_has_a_sentence(self) -> None:
        names = [one.operation.__name__ for one in WHOLE]
        modules = [one.operation.__module__ for one in WHOLE]
        self.assertEqual(len(set(zip(modules, names, strict=True))), len(WHOLE))
        for route in WHOLE:
            sentence = inspect.cleandoc(route.operation.__doc__ or "").partition("\n")[0]
            self.assertRegex(sentence, r"\A[A-Z].{10,}[.:]\Z", route.path)

    def test_no_operation_calls_a_request_malformed_that_follows_the_description(self) -> None:
        for route in WHOLE:
            module = inspect.getmodule(route.operation)
            assert module is not None
            self.assertFalse(hasattr(module, "BadRequest"), f"{module.__name__}: use BadValue")

    def test_it_is_json(self) -> None:
        json.dumps(self.document)

    def test_operations_take_tools_and_return_values(self) -> None:
        for route in WHOLE:
            hints = get_type_hints(route.operation)
            self.assertIs(hints["tools"], Tools)
            self.assertIn("return", hints)


class SchemaTests(SynchronousTestCase):
    def test_a_page_is_named_after_its_rows(self) -> None:
        schemas = Schemas()
        self.assertEqual(schemas.of(Page[str]), {"$ref": "#/components/schemas/PageStr"})
        page = schemas.components["PageStr"]
        self.assertEqual(
            page["properties"]["items"], {"type": "array", "items": {"type": "string"}}
        )
        self.assertEqual(page["properties"]["page"]["description"], "Its number, from 0.")

    def test_what_json_has_not_is_a_fault_of_the_operation(self) -> None:
        with self.assertRaisesRegex(TypeError, "expected a class with names"):
            Schemas().of(Pair)


class PageTests(SynchronousTestCase):
    def test_the_page_has_the_table_of_all_routes(self) -> None:
        text = API.read_text(encoding="utf-8")
        found = re.search(r"<!-- routes -->\n(.*?)<!-- /routes -->", text, re.S)
        assert found is not None
        self.assertEqual(found[1], table(WHOLE), "run scripts/make-api-table")
