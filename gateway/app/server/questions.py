"""What the processes of a server answer to each other, for operators."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from gateway.errors import AskFailed
from gateway.http.page.access import Sessions
from gateway.interfaces import IProcesses
from gateway.processes.channel import Channel

Answer = Callable[[Any], object]
"""Takes the argument of a question and answers it: a JSON value, or a Deferred of one."""

_EACH, _EVERYONE, _PARENT, _QUESTION = "ask each", "ask everyone", "ask parent", "question"

PARENT_WITHIN = 60.0
"""Seconds for an answer of the parent, which may have to ask all workers in turn."""


class Workers(Protocol):
    """All workers, as a ``Supervisor`` knows them."""

    def ask_all(self, name: str, body: object = None) -> Deferred[dict[int, Any]]:
        """The answers of those that serve, by number; without those that gave none in time."""

    def ask_everyone(self, name: str, body: object = None) -> Deferred[list[Any]]:
        """The answers of all that may have clients; fails unless all of them answer."""


class Questions:
    """The questions that this process answers."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def answer(self, question: str, answer: Answer) -> None:
        """Answer a question so, from now on."""
        self._answers[question] = answer

    def ask(self, question: str, argument: object = None) -> Deferred[Any]:
        """The answer; fails with ``AskFailed`` where there is none, and as the answer does."""
        return maybeDeferred(self._answers.get(question, _unknown(question)), argument)


def _unknown(question: str) -> Answer:
    def fail(_: object) -> None:
        raise AskFailed(f"no process of this server answers the question {question!r}")

    return fail


def answer_visits(questions: Questions) -> None:
    """Have this process keep the key of the page's cookies, and which sessions were ended."""
    for question, answer in Sessions(secrets.token_bytes(32), time.time).answers().items():
        questions.answer(question, answer)


@implementer(IProcesses)
class SingleProcess:
    """A server of one process."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def ask_each(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_each``."""
        return self.ask_parent(question, argument).addCallback(lambda answer: [answer])

    ask_everyone = ask_each

    def ask_parent(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_parent``."""
        return self.ask_here(question, argument)

    def ask_here(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_here``."""
        # As through a channel: a tuple becomes a list, and no process shares a value.
        return self._questions.ask(question, _as_json(argument)).addCallback(_as_json)


def _as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


@implementer(IProcesses)
class WorkerProcesses:
    """The server of a worker, which asks its parent."""

    def __init__(self, channel: Channel, questions: Questions) -> None:
        """Also has the worker answer ``questions``."""
        self._channel = channel
        self._questions = questions
        channel.handle(_QUESTION, lambda body: questions.ask(*body))

    def ask_each(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_each``."""
        # The parent waits for each worker as long as a channel does.
        return self._channel.ask(_EACH, [question, argument], within=PARENT_WITHIN)

    def ask_everyone(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_everyone``."""
        return self._channel.ask(_EVERYONE, [question, argument], within=PARENT_WITHIN)

    def ask_parent(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_parent``."""
        return self._channel.ask(_PARENT, [question, argument], within=PARENT_WITHIN)

    def ask_here(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_here``."""
        return self._questions.ask(question, argument)


@implementer(IProcesses)
class ParentProcesses:
    """The server of a parent: it answers by itself, or asks its workers."""

    def __init__(self, workers: Workers, questions: Questions) -> None:
        self._workers = workers
        self._questions = questions

    def ask_each(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_each``."""
        asked = self._workers.ask_all(_QUESTION, [question, argument])
        return asked.addCallback(lambda answers: list(answers.values()))

    def ask_everyone(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_everyone``."""
        return self._workers.ask_everyone(_QUESTION, [question, argument])

    def ask_parent(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_parent``."""
        return self.ask_here(question, argument)

    def ask_here(self, question: str, argument: object = None) -> Deferred[Any]:
        """As ``IProcesses.ask_here``."""
        return self._questions.ask(question, argument)

    def serve(self, channel: Channel) -> None:
        """Answer a worker's questions."""
        channel.handle(_EACH, lambda body: self.ask_each(*body))
        channel.handle(_EVERYONE, lambda body: self.ask_everyone(*body))
        channel.handle(_PARENT, lambda body: self.ask_parent(*body))
