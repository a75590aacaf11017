"""How commands ask the running server: requests, answers, and each way it can fail."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from control_socket import Asked, Said, control_socket
from gateway.cli.client import NoServer, Refused, Server
from gateway.errors import ConfigError, TookTooLong
from gateway.operations.mail import retention, retention_forecast, stored_mail

NOBODY = {
    "type": "about:blank",
    "title": "Not found",
    "status": 404,
    "detail": "bob: check the name",
}
DAY = {"begins": 86400.0, "messages": 3, "octets": 4096}
FORECAST = {"days": [DAY], "mailboxes": 2, "stopped": 0, "oldest": None, "summed": 9.5}


def asking(
    tmp_path: Path, answer: Said | bytes | Callable[[Asked], Said | bytes], timeout: float = 30.0
) -> tuple[Server, object]:
    """A client, and the control socket that it asks."""
    replies = answer if callable(answer) else lambda _: answer
    return Server(str(tmp_path), timeout), control_socket(tmp_path / "control", replies)


def test_an_answer_has_the_type_that_the_operation_returns(tmp_path: Path) -> None:
    server, listening = asking(tmp_path, Said(FORECAST))
    with listening as requests:
        found = server.ask(retention_forecast.forecast)
    assert found.days == (retention_forecast.ForecastDay(86400.0, 3, 4096),)
    assert (found.mailboxes, found.oldest) == (2, None)
    assert requests == [Asked("GET", "/v1/retention/forecast")]


def test_pages_have_items_of_their_type(tmp_path: Path) -> None:
    item = {"uid": "17", "octets": 5, "hidden": 1.5}
    page = {"items": [item], "page": 0, "per_page": 100, "total": 1}
    server, listening = asking(tmp_path, Said(page))
    with listening:
        found = server.ask(stored_mail.list_hidden, mailbox="bob")
    assert found.items == (stored_mail.HiddenMessage("17", 5, 1.5),)


def test_what_is_in_the_path_is_quoted_and_the_rest_is_in_the_query(tmp_path: Path) -> None:
    page = {"items": [], "page": 2, "per_page": 100, "total": 0}
    server, listening = asking(tmp_path, Said(page))
    with listening as requests:
        server.ask(stored_mail.list_hidden, mailbox="../a b?/ü%", page=2)
        server.ask(retention.list_scans, stopped=True, page=2)
    first, second = (urlsplit(one.target) for one in requests)
    assert first.path == "/v1/mailboxes/..%2Fa%20b%3F%2F%C3%BC%25/hidden"
    assert parse_qs(first.query) == {"page": ["2"]}
    assert parse_qs(second.query) == {"stopped": ["true"], "page": ["2"]}


def test_what_changes_something_has_a_body_of_json(tmp_path: Path) -> None:
    server, listening = asking(tmp_path, Said({"mailbox": "bob", "wanted": 2, "restored": 1}))
    with listening as requests:
        done = server.ask(stored_mail.restore, mailbox="bob", uids=("17", "18"))
    assert done == stored_mail.Restored("bob", 2, 1)
    (asked,) = requests
    assert (asked.method, asked.target) == ("POST", "/v1/mailboxes/bob/restore")
    assert asked.body == b'{"uids": ["17", "18"]}'


def test_a_refusal_says_what_the_server_said(tmp_path: Path) -> None:
    server, listening = asking(tmp_path, Said(NOBODY, 404, "application/problem+json"))
    with listening, pytest.raises(Refused, match=r"^bob: check the name$") as caught:
        server.ask(stored_mail.restore, mailbox="bob")
    assert caught.value.status == 404


def test_a_refusal_without_problem_json_names_its_status(tmp_path: Path) -> None:
    for body in (b"<html>", b"[]", b"{}", b'{"title": null}'):
        server, listening = asking(tmp_path, Said(body, 502, "text/html"))
        with listening, pytest.raises(Refused, match="HTTP status 502; look at its log"):
            server.ask(retention_forecast.forecast)
        os.unlink(tmp_path / "control")


def test_no_server_is_an_error_with_a_cure_and_is_not_running(tmp_path: Path) -> None:
    server = Server(str(tmp_path))
    for _ in range(2):
        assert not server.is_running()
        with pytest.raises(NoServer, match=r"control: .*; is the server running, with this"):
            server.ask(retention_forecast.forecast)
        # A socket that nobody listens on any more: the server was killed.
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(tmp_path / "control")) if not server_file(tmp_path) else None


def server_file(tmp_path: Path) -> bool:
    """Whether there is a socket."""
    return (tmp_path / "control").exists()


def test_a_server_that_does_not_answer_in_time_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(tmp_path / "control"))
        silent.listen()
        server = Server(str(tmp_path), timeout=0.05)
        assert server.is_running()
        with pytest.raises(TookTooLong, match=r"no answer within 0\.05 s; look at the"):
            server.ask(retention_forecast.forecast)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", "the server has ended"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "the server has ended"),
        (b"+OK POP3 ready\r\n", "expected HTTP, found BadStatusLine"),
        (Said(b"{"), "answer is not understood"),
        (Said(b"[" * 9000), "answer is not understood"),
        (Said(b"\xff\xfe"), "answer is not understood"),
        (Said(None), "answer is not understood"),
        (Said({"days": "x"}), "answer is not understood"),
        (Said({"days": []}), "Restart the server after an upgrade"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_whatever_the_server_answers_is_an_error_in_words(
    tmp_path: Path, answer: Said | bytes, fault: str
) -> None:
    server, listening = asking(tmp_path, answer)
    with listening, pytest.raises(ConfigError, match=fault):
        server.ask(retention_forecast.forecast)


def test_a_user_who_may_not_ask_is_told_who_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests run as root, to whom nothing is denied.
    monkeypatch.setattr(socket.socket, "connect", refused)
    server = Server(str(tmp_path))
    for ask in (server.is_running, lambda: server.ask(retention_forecast.forecast)):
        with pytest.raises(ConfigError, match="permission denied; run this as root, or as the"):
            ask()
