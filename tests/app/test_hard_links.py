"""At the start of a server of root: users must not be able to link what they may not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.app.first_start import User
from gateway.app.hard_links import hard_links_remark
from gateway.config.load import load_document

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a server of root")


def remark(sysctl: Path, user: User | None = None) -> str:
    settings, _ = load_document(None, {})
    return hard_links_remark(settings, user, str(sysctl))


@pytest.fixture
def unprotected(tmp_path: Path) -> Path:
    sysctl = tmp_path / "protected_hardlinks"
    sysctl.write_text("0\n")
    return sysctl


def test_root_is_told_that_users_may_link_any_file_into_their_maildirs(unprotected: Path) -> None:
    assert "sysctl fs.protected_hardlinks=1" in remark(unprotected)


def test_a_kernel_that_protects_hard_links_needs_no_word(unprotected: Path) -> None:
    unprotected.write_text("1\n")
    assert not remark(unprotected)
    unprotected.unlink()
    assert not remark(unprotected)


def test_a_server_that_is_not_root_then_needs_no_word(unprotected: Path) -> None:
    assert not remark(unprotected, User(12345, 12345, ()))
