"""How the row of the cluster makes a store, and what a mistake in its settings leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.kinds import StoreParts
from gateway.store.cluster.kind import CLUSTER, ClusterSettings
from gateway.testing.store_contract import run_now


class Watch:
    """Counts those that are watched."""

    def __init__(self) -> None:
        self.watched: list[str] = []

    def __call__(self, name: str) -> Any:
        """Watch one more."""
        self.watched.append(name)
        watch = self

        class One:
            """One of them."""

            def close(self) -> None:
                """It is watched no more."""
                watch.watched.remove(name)

        return One()


class MadeTests(SynchronousTestCase):
    def test_what_is_made_of_settings_leaves_nothing_open_and_no_directory(self) -> None:
        here = Path(self.mktemp())
        here.mkdir()
        watch: Any = Watch()
        parts: Any = StoreParts(
            state_dir="/",
            run=run_now,
            deliver=run_now,
            admit=Any,
            audit=Any,
            high_water=Any,
            reactor=MemoryReactorClock(),
            watch=watch,
        )
        database, bucket = "postgresql://gateway@db.example.org/mail", "https://s3.example.org/mail"
        for mistake in (
            {"bucket_ca_file": "nonexistent", "body_cache": str(here.resolve())},
            {"body_cache": "/nonexistent"},
        ):
            own = ClusterSettings(kind="cluster", database=database, bucket=bucket, **mistake)
            with self.assertRaisesRegex(ValueError, "/nonexistent: No such file"):
                CLUSTER.make(own, parts)
            self.assertEqual(watch.watched, [])
            self.assertEqual([*here.iterdir()], [])
        own = ClusterSettings(
            kind="cluster", database=database, bucket=bucket, body_cache=str(here.resolve())
        )
        store: Any = CLUSTER.make(own, parts)
        # A check of the settings makes it, too, and maybe as another user.
        self.assertEqual((len(watch.watched), [*here.iterdir()]), (2, []))
        store.close()
        self.assertEqual(watch.watched, [])
