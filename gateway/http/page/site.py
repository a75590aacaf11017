"""The operator's page: from a request to an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from gateway.errors import BadCredentials, GatewayError, TooManyGuesses
from gateway.events import Emit, LoginFailed, OperationDone, problem_of
from gateway.http.page.access import Door, Operator
from gateway.http.page.cookies import Visit
from gateway.http.page.done import DONE
from gateway.http.page.exchange import Answer, Asked, Malformed, cookie, redirect
from gateway.http.page.pages import At, Done, Path, Shown
from gateway.http.page.render import render, static_files
from gateway.http.page.table import PATHS
from gateway.http.page.words import NAMES, Words, languages, preferred
from gateway.http.problems import kind_of
from gateway.http.site import BoundedRequest
from gateway.model import Connection
from gateway.operations.tools import Tools
from gateway.saslprep import shown_name

log = Logger()

_KEEP = 31_536_000
"""Seconds for which a browser keeps the choice of a language, and static files."""


@frozen
class Desk:
    """What the page works with, of the configuration in force."""

    door: Door
    tools: Tools
    emit: Emit


class OperatorPage(Resource):
    """All pages below ``/``."""

    isLeaf = True

    def __init__(self, desk: Callable[[], Desk]) -> None:
        """``desk``: of the settings in force; called at each request."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk
        self._paths = {(one.method, one.path): one for one in PATHS}

    def render(self, request: BoundedRequest) -> Any:
        """Answer now or later; a client that leaves gets nothing."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        connection = request.connection

        def answered(answer: Answer) -> None:
            if not gone:
                answer.write(request)

        def failed(failure: Failure) -> None:
            log.failure("session {id}: internal error", failure, id=connection.id)

        answering = Deferred.fromCoroutine(self._answer(request))
        answering.addErrback(self._broken, connection).addCallback(answered).addErrback(failed)
        return NOT_DONE_YET

    def _broken(self, failure: Failure, connection: Connection) -> Answer:
        malformed = failure.check(Malformed)
        status = failure.value.status if malformed else 500  # type: ignore[union-attr]
        if not malformed:
            log.failure("session {id}: internal error", failure, id=connection.id)
        text = "The request is malformed.\n" if malformed else "Internal error: see the log.\n"
        return Answer(text.encode(), status, "text/plain; charset=utf-8")

    async def _answer(self, request: BoundedRequest) -> Answer:
        asked = Asked.read(request)
        if asked.method not in ("GET", "POST"):
            return Answer(b"", 405, "text/plain", {"Allow": "GET, HEAD, POST"})
        if asked.path.startswith("/static/"):
            return _static(asked)
        return await Turn(self._desk(), self._paths, asked).answer()


def _static(asked: Asked) -> Answer:
    file = static_files().get(asked.path.removeprefix("/static/"))
    if file is None or asked.method != "GET":
        return Answer(b"not found\n", 404, "text/plain")
    kept = {"Cache-Control": f"public, max-age={_KEEP}, immutable"}
    return Answer(file.content, 200, file.content_type, kept)


class Turn:
    """One request and its answer."""

    def __init__(self, desk: Desk, paths: Mapping[tuple[str, str], Path], asked: Asked) -> None:
        self._desk = desk
        self._paths = paths
        self._asked = asked
        self._now = desk.tools.now()
        secure = asked.connection.secure
        self._cookie = partial(cookie, secure=secure)
        # A browser takes a cookie with this prefix from nobody but this host, over TLS.
        self._session = "__Host-pop3gw" if secure else "pop3gw"
        # The first click on a link from another site comes without the session; the form that
        # it gets must not replace that.
        self._before = f"{self._session}-login"
        chosen = [asked.one("language"), asked.cookies.get("pop3gw-language", "")]
        known = [name for name in chosen if name in NAMES]
        language = known[0] if known else preferred(asked.languages)
        self._words: Words = languages()[language]
        self._set: list[str] = []
        if asked.one("language") in NAMES:
            self._set.append(self._cookie("pop3gw-language", language, seconds=_KEEP))
        self._operator: Operator | None = None

    async def answer(self) -> Answer:
        """What the browser gets."""
        self._cookies = await self._desk.door.cookies()
        self._visit = await self._find_visit()
        made = await self._made()
        return evolve(made, cookies=(*made.cookies, *self._set))

    async def _find_visit(self) -> Visit:
        """The visit of the operator, or one of nobody."""
        found = self._cookie_of(self._session)
        if found is not None and found.kind != "anonymous":
            self._operator = await self._desk.door.find(found, self._cookies)
        if found is None or self._operator is None:
            nobody = self._cookie_of(self._before)
            return nobody or Visit.begin("anonymous", "", "", self._now)
        # A page that only updates itself must not keep the session of somebody who has left.
        renewed = self._cookies.renewed(found, self._now)
        if renewed is not None and not self._asked.is_fragment:
            self._set.append(self._cookie(self._session, renewed))
        return found

    def _cookie_of(self, name: str) -> Visit | None:
        return self._cookies.find(self._asked.cookies.get(name, ""), self._now)

    async def _made(self) -> Answer:
        asked = self._asked
        if asked.method == "POST" and not self._is_own_form():
            return await self._fault(403, "form")
        if asked.path == "/login":
            return await self._log_in()
        if self._operator is None:
            return self._ask_to_log_in()
        if asked.path == "/logout" and asked.method == "POST":
            return await self._log_out()
        path = self._paths.get((asked.method, asked.path))
        if path is None:
            return await self._fault(404, "page")
        if path.is_change and not self._operator.may_operate:
            return await self._fault(403, "rights")
        return await self._page(path, self._operator)

    async def _page(self, path: Path, operator: Operator) -> Answer:
        tools = evolve(self._desk.tools, operator=operator.name)
        outcome = "internal error"
        try:
            made = await path.make(At(self._asked, tools, self._words, operator))
            outcome = "done"
        except GatewayError as error:
            outcome = f"{type(error).__name__}: {error}"
            return await self._refused(error)
        finally:
            if path.is_change:
                self._tell(operator.name, path.make.__name__, outcome)
        if isinstance(made, Done):
            query = {**made.query, "done": made.what, "count": str(made.count)}
            return redirect(f"{made.to}?{urlencode(query)}")
        return await self._shown(made)

    def _tell(self, operator: str, operation: str, outcome: str) -> None:
        target = self._asked.one("mailbox") or self._asked.one("target")
        self._desk.emit(OperationDone(operator, operation, target, outcome))

    async def _shown(self, made: Shown) -> Answer:
        asked = self._asked
        done, count = DONE.get(asked.one("done")), asked.one("count")
        number = int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0
        query = {
            name: value
            for name, value in asked.shown_query.items()
            if name not in ("done", "count", "language")
        }
        page = partial(
            render,
            made.template,
            self._words,
            path=asked.path,
            query=query,
            form_token=self._cookies.form_token(self._visit),
            operator=self._operator,
            fragment=asked.is_fragment,
            now=self._desk.tools.now(),
            done="" if done is None else done(self._words, number),
            **made.values,
        )
        # In a thread: sessions do not wait for an operator's table.
        text = await self._desk.tools.run(page)
        return Answer(text.encode("utf-8"), made.status)

    # -- logging in and out ------------------------------------------------------

    def _is_own_form(self) -> bool:
        """Whether a form is one of this visit, and of no other site."""
        if self._asked.is_foreign:
            return False
        return self._cookies.is_form_token(self._visit, self._asked.one("form"))

    def _ask_to_log_in(self) -> Answer:
        asked = self._asked
        if asked.is_fragment:
            return Answer(status=401)
        if asked.method != "GET":
            return redirect("/login")
        return redirect(f"/login?{urlencode({'to': asked.address})}")

    async def _log_in(self) -> Answer:
        if self._operator is not None:
            return redirect(self._target())
        if self._asked.method == "GET":
            return await self._login_form("")
        try:
            visit = await self._new_visit()
        except GatewayError as error:
            return await self._login_failed(error)
        self._tell(f"{visit.kind} {visit.name}", "log_in", "done")
        sealed = self._cookie(self._session, self._cookies.seal(visit))
        return redirect(self._target(), sealed)

    async def _login_failed(self, error: GatewayError) -> Answer:
        asked, words = self._asked, self._words
        by_token = bool(asked.one("token"))
        user = "" if by_token else shown_name(asked.one("login").encode("utf-8"))
        method = "token" if by_token else "page"
        self._desk.emit(LoginFailed(asked.connection, user, method, problem_of(error)))
        if isinstance(error, TooManyGuesses):
            problem, status = words.text("Too many wrong tries: wait a few minutes."), 429
        elif not isinstance(error, BadCredentials):
            problem = words.text("The directory does not answer: try again, or use a token.")
            status = 503
        elif by_token:
            problem, status = words.text("Wrong token, or one without the scope read."), 403
        else:
            problem, status = words.text("Wrong login name or password, or no operator."), 403
        return await self._login_form(problem, status)

    async def _new_visit(self) -> Visit:
        asked, door = self._asked, self._desk.door
        if token := asked.one("token"):
            return door.by_token(token, self._cookies, asked.connection, self._now)
        # The password is taken as it came, blanks included.
        password = (asked.form.get("password") or ("",))[-1]
        return await door.by_password(asked.one("login"), password, asked.connection, self._now)

    async def _login_form(self, problem: str, status: int = 200) -> Answer:
        self._set.append(self._cookie(self._before, self._cookies.seal(self._visit)))
        rights = self._desk.door.rights
        values = {
            "problem": problem,
            "to": self._target(),
            "by_account": bool(rights.accounts),
            "by_token": bool(rights.tokens),
        }
        return await self._shown(Shown("login.html", values, status))

    def _target(self) -> str:
        """The page to go to after the login: one of ours, or the first."""
        to = self._asked.one("to")
        return to if ("GET", to.partition("?")[0]) in self._paths else "/"

    async def _log_out(self) -> Answer:
        await self._desk.door.end(self._visit)
        self._tell(f"{self._visit.kind} {self._visit.name}", "log_out", "done")
        return redirect("/login", self._cookie(self._session, "", seconds=0))

    # -- faults --------------------------------------------------------------------

    async def _refused(self, error: GatewayError) -> Answer:
        status = int(kind_of(error).status)
        kinds = {404: "name", 400: "value", 422: "value", 409: "state", 501: "state"}
        return await self._fault(status, kinds.get(status, "work"), str(error))

    async def _fault(self, status: int, kind: str, detail: str = "") -> Answer:
        title, advice = FAULTS[kind](self._words)
        values = {
            "title": title,
            "advice": advice,
            "detail": detail,
            "style": "bad" if status >= 500 else "warn",
            "back": "/" if self._operator else "/login",
        }
        return await self._shown(Shown("fault.html", values, status))


FAULTS: Mapping[str, Callable[[Words], tuple[str, str]]] = {
    "form": lambda words: (
        words.text("This form is out of date"),
        words.text("Nothing was done. Go back, reload the page, and send the form again."),
    ),
    "page": lambda words: (
        words.text("There is no such page"),
        words.text("Choose a page from the menu."),
    ),
    "rights": lambda words: (
        words.text("You may look, not change"),
        words.text("Nothing was done. Log in with a token that has the scope operate."),
    ),
    "name": lambda words: (
        words.text("There is nothing of that name"),
        words.text("Check the name, or look for it among the mailboxes."),
    ),
    "value": lambda words: (
        words.text("A value is wrong"),
        words.text("Go back, and change what you entered."),
    ),
    "state": lambda words: (
        words.text("This cannot be done now"),
        words.text("Nothing was done. The server says why above."),
    ),
    "work": lambda words: (
        words.text("This did not work"),
        words.text("The server says why above. Try again in a minute, or look into its log."),
    ),
}
