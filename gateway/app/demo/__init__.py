"""The demonstration: one account with a few messages, made on the first run."""

from __future__ import annotations

import os
from importlib.resources import files

from gateway.directory import passwd_entries

ACCOUNT = "alice@example.org"
PASSWORD = "wonderland"


def make_demo(accounts: str, maildir: str) -> None:
    """Make the account where it is missing, and its Maildir with mail where there is none."""
    if not _has_account(accounts):
        passwd_entries.put(accounts, ACCOUNT, PASSWORD.encode())
    if os.path.exists(maildir):
        return
    for folder in ("tmp", "cur", "new"):
        os.makedirs(f"{maildir}/{folder}", mode=0o700)
    messages = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".eml"))
    order = ("welcome.eml", "dots.eml", "html.eml")
    for number, message in enumerate(sorted(messages, key=lambda file: order.index(file.name))):
        name = f"{1_793_610_000 + 60 * number}.M{number}P1.demo"
        with open(f"{maildir}/new/{name}", "wb") as out:
            out.write(message.read_bytes())


def _has_account(accounts: str) -> bool:
    try:
        with open(accounts, encoding="utf-8") as file:
            return any(line.partition(":")[0] == ACCOUNT for line in file)
    except FileNotFoundError:
        return False
