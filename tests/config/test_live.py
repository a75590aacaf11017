"""What a running server takes of new settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.config.live import Difference, merge
from gateway.config.load import load_settings
from gateway.config.settings import Settings


class MergeTests(SynchronousTestCase):
    def settings(self, text: str = "", **env: str) -> Settings:
        """The settings of a file with this text."""
        path = Path(self.mktemp())
        path.write_text(f'[listeners.plain]\nendpoint = "tcp:1110"\ntls = "stls"\n{text}')
        return load_settings(str(path), env)

    def merged(self, old: str, new: str) -> Difference:
        """What is taken of the new text."""
        return merge(self.settings(old), self.settings(new))

    def check(self, found: Difference, *, changed: tuple[Any, ...], restart: Any = ()) -> None:
        """Compare both lists of keys."""
        self.assertEqual((found.changed, found.restart), (changed, restart))

    def test_the_same_settings_change_nothing(self) -> None:
        same = "[limits]\nconnections = 5\n"
        found = self.merged(same, same)
        self.check(found, changed=())
        self.assertEqual(found.settings, self.settings(same))

    def test_a_changed_limit_is_taken(self) -> None:
        found = self.merged("", "[limits]\nconnections = 5\n")
        self.check(found, changed=("limits.connections",))
        self.assertEqual(found.settings.limits.connections, 5)

    def test_an_endpoint_keeps_its_old_value_and_the_rest_of_its_listener_changes(self) -> None:
        new = '[listeners.plain]\nendpoint = "tcp:2110"\ntls = "stls"\nciphers = "HIGH"\n'
        path = Path(self.mktemp())
        path.write_text(new)
        found = merge(self.settings(), load_settings(str(path), {}))
        self.check(
            found, changed=("listeners.plain.ciphers",), restart=("listeners.plain.endpoint",)
        )
        listener = found.settings.listeners["plain"]
        self.assertEqual((listener.endpoint, listener.ciphers), ("tcp:1110", "HIGH"))

    def test_listeners_are_neither_added_nor_removed(self) -> None:
        more = '[listeners.more]\nendpoint = "tcp:3110"\ntls = "stls"\n'
        added, removed = self.merged("", more), self.merged(more, "")
        self.check(added, changed=(), restart=("listeners.more",))
        self.check(removed, changed=(), restart=("listeners.more",))
        self.assertEqual(list(added.settings.listeners), ["plain"])
        self.assertEqual(sorted(removed.settings.listeners), ["more", "plain"])

    def test_domains_are_added_changed_and_removed(self) -> None:
        old = '[quota.domains."a.org"]\noctets = "1 MB"\n[quota.domains."b.org"]\nmessages = 1\n'
        new = '[quota.domains."a.org"]\noctets = "2 MB"\n[quota.domains."c.org"]\nmessages = 1\n'
        found = self.merged(old, new)
        keys = tuple(f"quota.domains.{key}" for key in ("a.org.octets", "b.org", "c.org"))
        self.check(found, changed=keys)
        self.assertEqual(sorted(found.settings.quota.domains), ["a.org", "c.org"])

    def test_another_kind_of_directory_is_taken_and_a_secret_is_no_part_of_a_key(self) -> None:
        ldap = '[ldap]\nuris = ["ldap://a.org"]\nbase = "dc=a"\nbind_dn = "cn=a"\n'
        old = self.settings(f'{ldap}bind_password = "first"\n')
        new = self.settings(f'[directory]\nkind = "ldap"\n{ldap}bind_password = "second"\n')
        found = merge(old, new)
        self.check(found, changed=("directory.kind", "ldap.bind_password"))
        self.assertEqual(found.settings.value("ldap.bind_password"), "second")

    def test_the_state_directory_waits_for_a_restart(self) -> None:
        old = self.settings(POP3GW_STATE_DIR=os.path.abspath("one"))
        new = self.settings(POP3GW_STATE_DIR=os.path.abspath("two"))
        found = merge(old, new)
        self.check(found, changed=(), restart=("state_dir",))
        self.assertEqual(found.settings.state_dir, os.path.abspath("one"))
