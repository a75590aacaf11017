"""Dovecot's configuration for the version that is installed here: 2.3 or 2.4.

Tests and benchmarks write it as Dovecot 2.3 spells it. 2.4 renamed settings and variables, wants
its version first, and reads nothing of 2.3's that it spells otherwise.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache

HEAD = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"

SPELT_BY_2_4 = (
    (r"disable_plaintext_auth = no", r"auth_allow_cleartext = yes"),
    (r"ssl_(cert|key) = <(.*)", r"ssl_server_\1_file = \2"),
    (r"mail_location = maildir:(.*)", r"mail_driver = maildir\nmail_path = \1"),
    (
        r"passdb \{\n  driver = passwd-file\n  args = (?:username_format=%u )?(.*)\n\}",
        r"passdb passwd-file {\n  passwd_file_path = \1\n}",
    ),
    (
        r"passdb \{\n  driver = static\n  args = nopassword=y proxy=y host=(\S+) port=(\d+)"
        r"( starttls=yes)?\n\}",
        r"passdb static {\n  fields {\n    nopassword = yes\n    proxy = yes\n    host = \1\n"
        r"    port = \2\n   \3\n  }\n}",
    ),
    (r"ssl_ca = <(.*)", r"ssl_client_ca_file = \1"),
    (r"ssl_require_crl = no\n", r""),
    (
        r"passdb \{\n  driver = ldap\n  args = (.*)\n\}",
        r"!include \1",
    ),
    (
        r"userdb \{\n  driver = static\n  args = uid=(\S+) gid=(\S+) home=(\S+)(?: allow_all_users"
        r"=yes)?\n\}",
        r"userdb static {\n  userdb_static_allow_all_users = yes\n"
        r"  fields {\n    uid = \1\n    gid = \2\n    home = \3\n  }\n}",
    ),
    (r"( +)address = (.*)", r"\1listen = \2"),
    (r"(default_vsz_limit|mail_max_userip_connections| +service_count) = 0", r"\1 = unlimited"),
    (r"( +)service_count = (.*)", r"\1service_restart_request_count = \2"),
)
"""Whole lines of 2.3, and what 2.4 has in their place."""

VARIABLES = (
    (r"^(pop3_uidl_format = .*)%u", r"\1%{uid}"),
    (r"%08Xu", "%{uid | hex(8)}"),
    (r"%08Xv", "%{uidvalidity | hex(8)}"),
    (r"%u", "%{user}"),
    (r"%n", "%{user | username}"),
)
"""Likewise of variables, in this order: in a unique-id ``%u`` is the message's."""


def configuration(text: str, version: str) -> str:
    """What ``dovecot.conf`` has to be for ``version``, given what it is for 2.3."""
    if version.startswith("2.3."):
        return text
    for theirs, new in SPELT_BY_2_4:
        text = re.sub(f"^{theirs}$", new, text, flags=re.MULTILINE)
    for theirs, new in VARIABLES:
        text = re.sub(theirs, new, text, flags=re.MULTILINE)
    return HEAD + text


@cache
def version(program: str = "dovecot") -> str:
    """As the program says it."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[0]
