"""Kill servers at random while mail comes and goes, and check that nothing is lost.

As root, in the virtual environment of the tests: ``python tests/faults --seconds 600 --seed 1``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("support", "peers"))]
# Gateways are of this tree too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def main() -> int:
    """Run once; 0: all rules held."""
    from driver import Run
    from mail_model import AFTER_LOSS, Rule
    from places import ClusterPlace, MaildirPlace

    parser = argparse.ArgumentParser("tests/faults", description=__doc__)
    parser.add_argument("--store", choices=("cluster", "maildir"), default="cluster")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--asynchronous",
        action="store_true",
        help="lose commits at each failover, and check unique-ids only",
    )
    asked = parser.parse_args()
    stop = threading.Event()
    directory = Path(tempfile.mkdtemp(prefix="pop3gw-faults-"))
    # Mail of a user that PostgreSQL or a gateway may become.
    directory.chmod(0o755)
    if asked.store == "maildir":
        place: MaildirPlace | ClusterPlace = MaildirPlace(directory, stop.wait)
    else:
        place = ClusterPlace(directory, stop.wait, synchronous=not asked.asynchronous)
    try:
        run = Run(place, asked.seed, stop, AFTER_LOSS if asked.asynchronous else Rule)
        run.perform(asked.seconds)
        run.report(sys.stdout)
    finally:
        stop.set()
        place.close()
    if not run.is_good:
        print(f"logs: {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
