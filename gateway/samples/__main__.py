"""``python -m gateway.samples``: print a sample file."""

from __future__ import annotations

import argparse
import sys

from gateway.samples import NAMES, text


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m gateway.samples", description=__doc__)
    parser.add_argument(
        "name",
        choices=NAMES,
        help="the documented configuration, a systemd unit, or the LDAP schema in one of two forms",
    )
    sys.stdout.write(text(parser.parse_args().name))


if __name__ == "__main__":
    main()
