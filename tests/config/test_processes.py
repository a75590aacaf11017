"""The number of worker processes, and the settings that they are handed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.config.load import load_document, load_settings, load_settings_of
from gateway.config.processes import MOST, processors
from gateway.errors import ConfigError

LISTENER = '[listeners.pop3]\nendpoint = "tcp:0"\n'


class ProcessesCase(SynchronousTestCase):
    def load(self, text: str = "", **environ: str) -> Any:
        """The settings of a file and of variables."""
        return load_settings(self.file(text), environ)

    def file(self, text: str) -> str:
        """A configuration file."""
        path = Path(self.mktemp())
        path.write_text(LISTENER + text)
        return str(path)


class CountTests(ProcessesCase):
    def test_one_process_does_everything_by_default(self) -> None:
        self.assertEqual(self.load().processes.count, 1)

    def test_workers_are_a_number_or_auto(self) -> None:
        self.assertEqual(self.load("[processes]\nworkers = 3\n").processes.count, 3)
        auto = self.load('[processes]\nworkers = "auto"\n').processes
        self.assertEqual((auto.workers, auto.count), ("auto", processors()))

    def test_the_environment_sets_both(self) -> None:
        for text, workers in (("2", 2), ("auto", "auto")):
            settings = self.load("[processes]\nworkers = 5\n", POP3GW_PROCESSES__WORKERS=text)
            self.assertEqual(settings.processes.workers, workers)

    def test_any_other_value_is_an_error_that_says_what_was_expected(self) -> None:
        for value in ("0", "-1", "65", "1.5", "true", '"2"', '"many"', "[]", "{}"):
            with self.assertRaisesRegex(
                ConfigError, r'processes\.workers: expected 1 to 64 or "auto", found '
            ):
                self.load(f"[processes]\nworkers = {value}\n")
        with self.assertRaisesRegex(ConfigError, r"POP3GW_PROCESSES__WORKERS: .*'none'"):
            self.load(POP3GW_PROCESSES__WORKERS="none")

    def test_auto_counts_the_processors_that_this_process_may_use(self) -> None:
        file = Path(self.mktemp())
        own = len(os.sched_getaffinity(0))
        for text, expected in (
            ("max 100000\n", own),
            ("100000 100000\n", 1),
            ("50000 100000\n", 1),
            ("150000 100000\n", min(own, 2)),
            ("99999999999 1\n", own),
            ("nonsense\n", own),
            ("", own),
        ):
            file.write_text(text)
            self.assertEqual(processors(str(file)), min(expected, MOST), text)
        self.assertEqual(processors("/nonexistent"), min(own, MOST))


class DocumentTests(ProcessesCase):
    def test_settings_from_a_document_are_the_same_in_another_process(self) -> None:
        secret = Path(self.mktemp())
        secret.write_text("t0ken\n")
        text = (
            '[limits]\nconnections = 7\n[http]\nendpoint = "tcp:0"\n'
            '[quota.domains."Example.org"]\noctets = "1 GB"\n'
        )
        environ = {"POP3GW_HTTP__TOKEN_FILE": str(secret), "POP3GW_PROCESSES__WORKERS": "2"}
        settings, document = load_document(self.file(text), environ)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir("/")
        handed = load_settings_of(json.loads(json.dumps(document)))
        self.assertEqual(handed, settings)
        self.assertEqual(handed.http.token, "t0ken")

    def test_a_document_is_not_changed_by_reading_it(self) -> None:
        _, document = load_document(self.file("[limits]\nconnections = 7\n"), {})
        before = json.dumps(document)
        load_settings_of(document)
        self.assertEqual(json.dumps(document), before)

    def test_without_a_file_a_document_has_the_default_listeners(self) -> None:
        settings, document = load_document(None, {})
        self.assertEqual(load_settings_of(document), settings)
        self.assertEqual(set(settings.listeners), {"pop3", "pop3s"})

    def test_a_secret_that_can_no_longer_be_read_is_an_error(self) -> None:
        secret = Path(self.mktemp())
        secret.write_text("t0ken\n")
        text = f'[http]\nendpoint = "tcp:0"\ntoken_file = "{secret.absolute()}"\n'
        _, document = load_document(self.file(text), {})
        secret.unlink()
        with self.assertRaisesRegex(ConfigError, r"http\.token_file: .*cannot be read"):
            load_settings_of(document)
