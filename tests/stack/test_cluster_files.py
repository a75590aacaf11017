"""The files of ``etc/cluster`` fit together: schema, settings, ports, paths, roles and names."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from twisted.trial.unittest import SynchronousTestCase

import run_local
from gateway.config.load import load_settings
from gateway.store.cluster.kind import ClusterSettings
from gateway.units import parse_size

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "etc" / "cluster"
POSTGRESQL = CLUSTER / "postgresql"
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HAPROXY = (CLUSTER / "haproxy.cfg").read_text()
GATEWAYS, DATABASES = ("gateway1", "gateway2"), ("db1", "db2")
MADE = ("accounts", "secrets", "tls")
"""Directories that ``prepare`` fills."""


def mounts(service: str) -> Iterator[tuple[str, str]]:
    """Source and target of each volume, and of each secret."""
    for volume in SERVICES[service].get("volumes", ()):
        source, target = volume.replace("${MAIL_DATA:-.}", ".").split(":")[:2]
        yield source, target
    for secret in SERVICES[service].get("secrets", ()):
        file = COMPOSE["secrets"][secret]["file"].replace("${MAIL_DATA:-.}", ".")
        yield file, f"/run/secrets/{secret}"


def addresses() -> dict[str, str]:
    """Those that are fixed, by service."""
    networks = ((name, one["networks"]) for name, one in SERVICES.items())
    return {name: nets["mail"]["ipv4_address"] for name, nets in networks if "mail" in nets}


class ClusterTests(SynchronousTestCase):
    made: Path

    @classmethod
    def setUpClass(cls) -> None:
        kept = tempfile.TemporaryDirectory()
        cls.addClassCleanup(kept.cleanup)
        cls.made = Path(kept.name)
        subprocess.run([CLUSTER / "prepare", str(cls.made)], check=True, timeout=60)

    def setUp(self) -> None:
        self.environ = {
            f"POP3GW_STORE__{name}_FILE": str(self.made / "secrets" / secret)
            for name, secret in (
                ("DATABASE_PASSWORD", "database-gateway"),
                ("BUCKET_SECRET_KEY", "bucket-gateway"),
            )
        }
        self.settings = load_settings(str(CLUSTER / "pop3gw.toml"), self.environ)
        assert isinstance(self.settings.store, ClusterSettings)
        self.store = self.settings.store
        self.database = urlsplit(self.store.database)


class ComposeTests(ClusterTests):
    def test_the_compose_file_passes_the_schema_of_the_compose_specification(self) -> None:
        check = [sys.executable, "-m", "check_jsonschema"]
        done = subprocess.run(
            [*check, "--builtin-schema", "vendor.compose-spec", str(CLUSTER / "compose.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_that_is_mounted_is_there_or_made_by_prepare_or_a_volume(self) -> None:
        for service in SERVICES:
            for source, target in mounts(service):
                with self.subTest(service=service, source=source):
                    self.assertTrue(target.startswith("/"))
                    if source.split("/")[1:2] and source.split("/")[1] in MADE:
                        self.assertTrue((self.made / source).exists())
                    elif source.startswith("."):
                        self.assertTrue((CLUSTER / source).exists())
                    else:
                        self.assertIn(source, COMPOSE["volumes"])

    def test_no_two_services_share_a_volume(self) -> None:
        names = [source for one in SERVICES for source, _ in mounts(one) if source[0] != "."]
        self.assertEqual(sorted(names), sorted(COMPOSE["volumes"]))

    def test_all_services_have_a_read_only_root_and_no_capability(self) -> None:
        for name, settings in SERVICES.items():
            with self.subTest(service=name):
                self.assertTrue(settings["read_only"])
                self.assertEqual(settings["cap_drop"], ["ALL"])
                self.assertNotIn("cap_add", settings)
                self.assertEqual(settings["security_opt"], ["no-new-privileges:true"])

    def test_each_service_that_runs_on_has_a_health_check(self) -> None:
        ends = {"bucket", "migrate"}
        for name, settings in SERVICES.items():
            with self.subTest(service=name):
                self.assertEqual("restart" in settings, name not in ends)
                if name not in (*ends, *GATEWAYS):
                    self.assertEqual(settings["healthcheck"]["test"][0], "CMD")
        image = run_local.read_dockerfile(ROOT, ROOT / "Dockerfile")
        self.assertEqual(image.health, ["pop3gw", "health"])

    def test_the_image_is_built_with_the_drivers_of_a_cluster(self) -> None:
        (default,) = re.findall(r"^ARG EXTRAS=(.*)$", (ROOT / "Dockerfile").read_text(), re.M)
        for name in (*GATEWAYS, "migrate"):
            extras = SERVICES[name]["build"]["args"]["EXTRAS"]
            self.assertEqual(extras, f"{default},cluster")

    def test_each_service_gets_no_more_secrets_than_it_uses(self) -> None:
        given = {name: set(one.get("secrets", ())) for name, one in SERVICES.items()}
        self.assertEqual(given["gateway1"], {"database-gateway", "bucket-gateway"})
        self.assertEqual(given["migrate"], {"database-owner"})
        self.assertEqual(given["s3"], {"bucket-identities"})
        self.assertEqual(given["haproxy"] | given["bucket"], set())
        text = (CLUSTER / "compose.yaml").read_text()
        texts = "".join(one.read_text() for one in POSTGRESQL.iterdir())
        for secret in given["db1"]:
            self.assertIn(f"/run/secrets/{secret}", text + texts)

    def test_gateways_and_databases_differ_by_name_only(self) -> None:
        for one, other in (GATEWAYS, DATABASES):
            with self.subTest(service=one):
                changed = yaml.safe_dump(SERVICES[one])
                numbers = (("1", "2"), ("2", "1")) if one == "db1" else (("1", "2"),)
                name = one[:-1]
                marks = {f"{name}{old}": f"{name}{new}" for old, new in numbers}
                changed = re.sub(rf"{name}[12]", lambda at: marks[at[0]], changed)  # noqa: B023
                changed = changed.replace("PRIMARY: ${PRIMARY:-db2}", "PRIMARY: ${PRIMARY:-db1}")
                changed = changed.replace("172.30.25.11", "172.30.25.12")
                self.assertEqual(yaml.safe_load(changed), SERVICES[other])

    def test_haproxy_is_out_of_reach_of_the_engines(self) -> None:
        self.assertTrue(COMPOSE["networks"]["engines"]["internal"])
        self.assertEqual(list(SERVICES["haproxy"]["networks"]), ["mail"])
        published = {name for name, one in SERVICES.items() if "ports" in one}
        self.assertEqual(published, {"haproxy"})

    def test_a_stop_leaves_time_to_drain(self) -> None:
        grace = float(SERVICES["gateway1"]["stop_grace_period"].removesuffix("s"))
        self.assertGreater(grace, self.settings.limits.drain_timeout)


class SettingsTests(ClusterTests):
    def test_a_gateway_takes_the_settings(self) -> None:
        text = (CLUSTER / "pop3gw.toml").read_text()
        for target in ("mail-tls", "cluster-ca", "mail-accounts"):
            (source,) = (one for one, at in mounts("gateway1") if at == f"/etc/{target}")
            text = text.replace(f"/etc/{target}", str(self.made / source))
        config = self.made / "pop3gw.toml"
        config.write_text(text.replace("/var/lib/pop3gw", str(self.made)))
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", "check-config", "--config", str(config)],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin", **self.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_haproxy_sends_clients_to_the_listeners_of_both_gateways(self) -> None:
        endpoints = {name: one.endpoint for name, one in self.settings.listeners.items()}
        endpoints["lmtp"] = self.settings.lmtp.endpoint
        ports = {name: endpoint.removeprefix("tcp:") for name, endpoint in endpoints.items()}
        for name, port in ports.items():
            with self.subTest(listener=name):
                self.assertIn(f"frontend {name}\n    bind :{port}\n", HAPROXY)
                (backend,) = re.findall(rf"^backend {name}\n((?: .*\n)+)", HAPROXY, re.M)
                servers = re.findall(r"server (\w+) ([\d.]+):(\d+)$", backend, re.M)
                wanted = [(one, addresses()[one], port) for one in GATEWAYS]
                self.assertEqual(servers, wanted)
        published = {one.split(":")[-1] for one in SERVICES["haproxy"]["ports"]}
        self.assertEqual(published, set(ports.values()))
        self.assertIn("default-server send-proxy-v2 check check-send-proxy", HAPROXY)

    def test_lmtp_is_published_for_this_machine_only(self) -> None:
        port = self.settings.lmtp.endpoint.removeprefix("tcp:")
        (lmtp,) = (one for one in SERVICES["haproxy"]["ports"] if one.endswith(f":{port}"))
        self.assertTrue(lmtp.startswith("127.0.0.1:"))

    def test_only_haproxy_may_name_clients(self) -> None:
        own = f"{addresses()['haproxy']}/32"
        for one in (*self.settings.listeners.values(), self.settings.lmtp):
            self.assertTrue(one.proxy_protocol)
            self.assertEqual([str(network) for network in one.proxy_networks], [own])
        (network,) = COMPOSE["networks"]["mail"]["ipam"]["config"]
        allowed = {str(one) for one in self.settings.lmtp.allowed_networks}
        self.assertIn(network["subnet"], allowed)

    def test_haproxy_waits_longer_than_idle_clients(self) -> None:
        for side in ("client", "server"):
            (minutes,) = re.findall(rf"^    timeout {side} (\d+)m$", HAPROXY, re.M)
            self.assertGreater(60 * int(minutes), self.settings.profile.idle_timeout)

    def test_paths_of_certificates_and_secrets_are_where_they_are_mounted(self) -> None:
        texts = {
            "gateway1": (CLUSTER / "pop3gw.toml").read_text(),
            "migrate": SERVICES["migrate"]["command"][0],
            "db1": "".join(one.read_text() for one in POSTGRESQL.iterdir()),
            "s3": "\n".join(SERVICES["s3"]["command"]),
        }
        for service, text in texts.items():
            at = {target: source for source, target in mounts(service)}
            named = set(re.findall(r"/(?:etc/[\w-]+|run/secrets)/[\w.-]+", text))
            self.assertNotEqual(named, set())
            for path in named:
                with self.subTest(service=service, path=path):
                    directory, _, file = path.rpartition("/")
                    source = at.get(path) or f"{at[directory]}/{file}"
                    place = CLUSTER if source.startswith("./postgresql") else self.made
                    self.assertTrue((place / source).is_file())

    def test_the_engines_have_the_names_and_ports_of_the_settings_and_certificates(self) -> None:
        self.assertEqual(self.database.netloc, f"gateway@{','.join(DATABASES)}")
        bucket = urlsplit(self.store.bucket)
        self.assertIn(f"-s3.port={bucket.port}", SERVICES["s3"]["command"])
        prepare = (CLUSTER / "prepare").read_text()
        for host in (*DATABASES, bucket.hostname):
            self.assertIn(host, SERVICES)
            self.assertIn(f"certificate {host} DNS:{host}\n", prepare)
        for name in self.settings.tls.names:
            self.assertIn(f"DNS:{name}", prepare)
        made = SERVICES["bucket"]["command"][0]
        self.assertIn(f"s3.bucket.create -name {bucket.path.strip('/')}'", made)
        identities = (self.made / "secrets/bucket-identities").read_text()
        (found,) = yaml.safe_load(identities)["identities"]
        (key,) = found["credentials"]
        self.assertEqual(key["accessKey"], self.store.bucket_access_key)
        self.assertEqual(key["secretKey"], self.store.bucket_secret_key)
        wanted = [f"{one}:{bucket.path.strip('/')}" for one in ("Read", "Write", "List")]
        self.assertEqual(found["actions"], wanted)

    def test_both_roles_reach_the_primary_only_and_verify_its_certificate(self) -> None:
        (address,) = re.findall(r"'(postgresql:.*?)'", SERVICES["migrate"]["command"][0])
        owner = urlsplit(address)
        self.assertEqual(owner.query, self.database.query)
        self.assertEqual(owner.netloc.partition("@")[2], self.database.netloc.partition("@")[2])
        asked = parse_qs(owner.query)
        self.assertEqual(asked["target_session_attrs"], ["read-write"])
        self.assertEqual(asked["sslmode"], ["verify-full"])
        self.assertEqual(asked["sslrootcert"], [self.store.bucket_ca_file])

    def test_roles_are_the_same_everywhere(self) -> None:
        roles = (POSTGRESQL / "roles.sql").read_text()
        access = (POSTGRESQL / "pg_hba.conf").read_text()
        made = set(re.findall(r"^CREATE ROLE (\w+) LOGIN", roles, re.M))
        self.assertEqual(made, {"pop3gw", "gateway", "standby"})
        name = self.database.path.strip("/")
        self.assertIn(f"\nhostssl  {name} ", access)
        self.assertNotRegex(access, r"(?m)^host |trust|hostnossl")
        self.assertEqual(SERVICES["db1"]["environment"]["POSTGRES_DB"], name)
        for script in ("start", "is-primary"):
            self.assertIn("user=standby", (POSTGRESQL / script).read_text())

    def test_the_gateways_role_has_the_settings_that_the_manual_has(self) -> None:
        manual = (ROOT / "docs/cluster.md").read_text()
        roles = (POSTGRESQL / "roles.sql").read_text()
        own = re.findall(r"^ALTER ROLE gateway SET .*;$", manual, re.M)
        self.assertGreater(len(own), 1)
        for line in (*own, "GRANT USAGE ON SCHEMA pop3gw TO gateway;"):
            self.assertIn(line, roles)
        (granted,) = re.findall(r"^GRANT (.*) ON ALL TABLES IN SCHEMA pop3gw", manual, re.M)
        self.assertIn(f"    GRANT {granted} ON TABLES TO gateway;\n", roles)

    def test_postgresql_takes_the_connections_of_a_third_gateway_too(self) -> None:
        text = (POSTGRESQL / "postgresql.conf").read_text()
        (most,) = re.findall(r"^max_connections = (\d+)$", text, re.M)
        (both,) = re.findall(r"take up to (\d+) ", text)
        workers = int(SERVICES["gateway1"]["environment"]["POP3GW_PROCESSES__WORKERS"])
        one = workers * (3 * self.store.threads + self.settings.lmtp.threads)
        self.assertEqual(int(both), 2 * one)
        # A standby and its first copy, a migration, and those that PostgreSQL keeps for superusers.
        self.assertLess(3 * one + 10, int(most))

    def test_a_message_that_is_accepted_has_room(self) -> None:
        quota = parse_size(self.settings.quota.octets)
        self.assertLess(parse_size(self.settings.lmtp.max_size), quota)
