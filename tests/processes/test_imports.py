"""What processes import before they have a reactor."""

from __future__ import annotations

import subprocess
import sys
from unittest import TestCase

SCRIPT = """
import sys
import {module}
sys.exit("twisted.internet.reactor" in sys.modules)
"""


class ImportTests(TestCase):
    def test_the_fork_server_has_no_reactor_whose_descriptors_workers_would_share(self) -> None:
        for module in ("gateway.app.worker", "gateway.app.parent", "gateway.app.assembly"):
            script = SCRIPT.format(module=module)
            ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
            self.assertEqual(ended.returncode, 0, module)
