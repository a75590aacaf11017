"""The files of ``etc/stack`` fit together: schemas, settings, ports, paths, users and names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from twisted.trial.unittest import SynchronousTestCase

import run_local
from gateway.config.load import load_settings
from gateway.units import parse_size

ROOT = Path(__file__).parents[2]
STACK = ROOT / "etc" / "stack"
COMPOSE = yaml.safe_load((STACK / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KUSTOMIZATION = yaml.safe_load((STACK / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((STACK / "kubernetes.yaml").read_text()))
TOML = (STACK / "pop3gw.toml").read_text()
MADE = ("tls", "secrets")
"""Directories that ``prepare`` fills."""


def objects(kind: str) -> dict[str, dict[str, Any]]:
    """Those of a kind, by name."""
    return {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    """What a StatefulSet's pods are."""
    spec: dict[str, Any] = objects("StatefulSet")[name]["spec"]["template"]["spec"]
    return spec


def image(service: str) -> run_local.Image:
    """What the Dockerfile of a service says."""
    build = SERVICES[service]["build"]
    context = (STACK / build["context"]).resolve()
    return run_local.read_dockerfile(context, context / build.get("dockerfile", "Dockerfile"))


def mounts(service: str) -> Iterator[tuple[str, str]]:
    """Source and target of each volume in compose.yaml."""
    for volume in SERVICES[service]["volumes"]:
        source, target = volume.replace("${MAIL_DATA:-.}", ".").split(":")[:2]
        yield source, target


def dockerfile(service: str) -> str:
    """Its text."""
    build = SERVICES[service]["build"]
    return (STACK / build["context"] / build.get("dockerfile", "Dockerfile")).read_text()


class StackTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "password").write_text("secret")
        self.environ = {"POP3GW_LDAP__BIND_PASSWORD_FILE": str(directory / "password")}
        self.settings = load_settings(str(STACK / "pop3gw.toml"), self.environ)


class ComposeTests(StackTests):
    def test_the_compose_file_passes_the_schema_of_the_compose_specification(self) -> None:
        check = [sys.executable, "-m", "check_jsonschema"]
        done = subprocess.run(
            [*check, "--builtin-schema", "vendor.compose-spec", str(STACK / "compose.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_files_and_directories_that_are_mounted_are_there_or_made_by_prepare(self) -> None:
        prepare = (STACK / "prepare").read_text()
        for service in SERVICES:
            for source, target in mounts(service):
                with self.subTest(service=service, source=source):
                    self.assertTrue(target.startswith("/"))
                    if source.split("/")[1:2] and source.split("/")[1] in MADE:
                        self.assertIn(source.removeprefix("./"), prepare)
                    elif source.startswith("."):
                        self.assertTrue((STACK / source).is_file())
                    else:
                        self.assertIn(source, COMPOSE["volumes"])
                        self.assertIn(f"VOLUME {target}\n", dockerfile(service))

    def test_published_ports_are_those_of_the_listeners_and_of_the_images(self) -> None:
        inside = {
            service: [int(port.split(":")[1]) for port in settings.get("ports", ())]
            for service, settings in SERVICES.items()
        }
        listeners = {int(one.endpoint.split(":")[1]) for one in self.settings.listeners.values()}
        self.assertEqual(set(inside["pop3gw"]), listeners)
        # LMTP, the policy service and LDAP are for the inside only.
        self.assertEqual((inside["openldap"], inside["postfix"]), ([], [25]))
        for service, ports in inside.items():
            exposed = re.findall(r"^EXPOSE (.*)$", dockerfile(service), re.M)[0].split()
            self.assertLessEqual({str(port) for port in ports}, set(exposed))

    def test_no_service_may_gain_privileges_and_all_run_on_a_read_only_root(self) -> None:
        for service, settings in SERVICES.items():
            with self.subTest(service=service):
                self.assertTrue(settings["read_only"])
                self.assertEqual(settings["cap_drop"], ["ALL"])
                self.assertEqual(settings["security_opt"], ["no-new-privileges:true"])
        self.assertNotIn("cap_add", SERVICES["pop3gw"])

    def test_pop3gw_takes_mail_and_questions_from_the_network_of_the_stack(self) -> None:
        (network,) = COMPOSE["networks"]["mail"]["ipam"]["config"]
        for section in (self.settings.lmtp, self.settings.policy):
            self.assertIn(network["subnet"], {str(one) for one in section.allowed_networks})

    def test_a_stop_leaves_time_to_drain(self) -> None:
        grace = float(SERVICES["pop3gw"]["stop_grace_period"].removesuffix("s"))
        self.assertGreater(grace, self.settings.limits.drain_timeout)


class SettingsTests(StackTests):
    def test_postfix_delivers_and_asks_where_pop3gw_listens(self) -> None:
        main = (STACK / "postfix/main.cf").read_text()
        lmtp = self.settings.lmtp.endpoint.removeprefix("tcp:")
        policy = self.settings.policy.endpoint.removeprefix("tcp:")
        self.assertIn(f"virtual_transport = lmtp:inet:pop3gw:{lmtp}\n", main)
        self.assertEqual(re.findall(r"inet:pop3gw:(\d+),", main), [policy, policy])
        limit = int(re.findall(r"^message_size_limit = (\d+)$", main, re.M)[0])
        self.assertLessEqual(limit, parse_size(self.settings.lmtp.max_size))

    def test_paths_of_certificates_and_secrets_are_where_they_are_mounted(self) -> None:
        texts = {
            "pop3gw": TOML,
            "postfix": (STACK / "postfix/main.cf").read_text(),
            "openldap": (STACK / "openldap/slapd.conf").read_text()
            + (STACK / "openldap/start").read_text(),
        }
        for service, text in texts.items():
            at = {target: source for source, target in mounts(service)}
            named = set(
                re.findall(r"(/(?:etc/[\w-]*(?:tls|ca)|run/secrets/[\w-]+))/([\w.]+)", text)
            )
            self.assertNotEqual(named, set())
            prepare = (STACK / "prepare").read_text()
            for directory, file in named:
                with self.subTest(service=service, directory=directory, file=file):
                    source = at[directory].removeprefix("./")
                    wanted = f"{source}/{file}"
                    self.assertIn(
                        re.sub(r"tls/(mail|ldap)/tls\..*", "tls/$1/tls.", wanted), prepare
                    )

    def test_the_certificates_have_the_names_that_clients_connect_to(self) -> None:
        prepare = (STACK / "prepare").read_text()
        main = (STACK / "postfix/main.cf").read_text()
        host = re.findall(r"^myhostname = (.*)$", main, re.M)[0]
        for name in (*self.settings.tls.names, host):
            self.assertIn(f"DNS:{name}", prepare)
        self.assertEqual(SERVICES["postfix"]["hostname"], host)
        uri = self.settings.ldap.uris[0]
        server, port = re.findall(r"//([\w-]+):(\d+)$", uri)[0]
        self.assertIn(f"certificate ldap DNS:{server}\n", prepare)
        self.assertIn(f"'ldap://:{port} ", (STACK / "openldap/start").read_text())
        self.assertIn(f"EXPOSE {port}\n", dockerfile(server))

    def test_names_of_the_directory_are_the_same_everywhere(self) -> None:
        base, reader = self.settings.ldap.base, self.settings.ldap.bind_dn
        slapd = (STACK / "openldap/slapd.conf").read_text()
        self.assertIn(f'by dn.exact="{reader}" read', slapd)
        self.assertIn(f'limits dn.exact="{reader}"', slapd)
        self.assertIn(f"dn: {reader}\\n", (STACK / "openldap/start").read_text())
        self.assertIn(f"dn: {base}\n", (STACK / "openldap/base.ldif").read_text())
        alice = (STACK / "users/alice.ldif").read_text()
        self.assertIn(f"dn: uid=alice,{base}\n", alice)
        domain = re.findall(r"^mail: .*@(.*)$", alice, re.M)[0]
        self.assertIn(
            f"virtual_mailbox_domains = {domain}\n", (STACK / "postfix/main.cf").read_text()
        )

    def test_slapd_maps_the_user_of_its_image_to_the_administrator(self) -> None:
        user, group = image("openldap").user.split(":")
        slapd = (STACK / "openldap/slapd.conf").read_text()
        self.assertIn(f"gidNumber={group}[+]uidNumber={user},cn=peercred", slapd)


class KubernetesTests(StackTests):
    def test_each_object_passes_the_schema_of_kubernetes(self) -> None:
        for one in OBJECTS:
            with self.subTest(kind=one["kind"], name=one["metadata"]["name"]):
                kubernetes_validate.validate(one, "1.33", strict=True)

    def test_config_maps_and_secrets_are_generated_and_have_what_is_mounted(self) -> None:
        generated = {
            one["name"]: {Path(file).name for file in one["files"]}
            for one in (*KUSTOMIZATION["configMapGenerator"], *KUSTOMIZATION["secretGenerator"])
        }
        files = (*KUSTOMIZATION["configMapGenerator"], *KUSTOMIZATION["secretGenerator"])
        for file in (file for one in files for file in one["files"]):
            if file.split("/")[0] not in MADE:
                self.assertTrue((STACK / file).is_file(), file)
        used = set()
        for name in objects("StatefulSet"):
            sources = {
                volume["name"]: volume.get("configMap", {}).get("name")
                or volume.get("secret", {}).get("secretName")
                for volume in pod(name)["volumes"]
            }
            for mount in pod(name)["containers"][0]["volumeMounts"]:
                if source := sources.get(mount["name"]):
                    used.add(source)
                    if "subPath" in mount:
                        self.assertIn(mount["subPath"], generated[source])
        self.assertEqual(used, set(generated))

    def test_pods_mount_at_the_paths_of_the_compose_file(self) -> None:
        for name, settings in SERVICES.items():
            wanted = {target for _, target in mounts(name)}
            wanted |= {place.partition(":")[0] for place in settings["tmpfs"]}
            found = {mount["mountPath"] for mount in pod(name)["containers"][0]["volumeMounts"]}
            self.assertEqual(found, wanted)
            claims = objects("StatefulSet")[name]["spec"]["volumeClaimTemplates"]
            volumes = {source for source, _ in mounts(name) if not source.startswith(".")}
            self.assertEqual({claim["metadata"]["name"] for claim in claims}, volumes)

    def test_pods_run_as_the_users_of_the_images_with_the_capabilities_of_compose(self) -> None:
        for name, settings in SERVICES.items():
            (container,) = pod(name)["containers"]
            self.assertEqual(container["image"], settings["image"])
            self.assertIn(container["image"], {one["name"] for one in KUSTOMIZATION["images"]})
            context = container["securityContext"]
            self.assertEqual(context["capabilities"].get("add"), settings.get("cap_add"))
            self.assertEqual(context["capabilities"]["drop"], ["ALL"])
            self.assertFalse(context["allowPrivilegeEscalation"])
            self.assertTrue(context["readOnlyRootFilesystem"])
            user, group = map(int, image(name).user.split(":"))
            if user:
                found = pod(name)["securityContext"]
                self.assertTrue(found["runAsNonRoot"])
                ids = (found["runAsUser"], found["runAsGroup"], found["fsGroup"])
                self.assertEqual(ids, (user, group, group))

    def test_probes_are_the_health_checks_of_the_images(self) -> None:
        for name in SERVICES:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                command = pod(name)["containers"][0][probe]["exec"]["command"]
                self.assertEqual(command, image(name).health)

    def test_environment_variables_are_settings(self) -> None:
        (container,) = pod("pop3gw")["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        settings = load_settings(str(STACK / "pop3gw.toml"), {**self.environ, **variables})
        networks = {str(one) for one in settings.lmtp.allowed_networks}
        self.assertIn("10.0.0.0/8", networks)
        self.assertEqual(networks, {str(one) for one in settings.policy.allowed_networks})

    def test_ports_are_those_that_the_servers_listen_on(self) -> None:
        endpoints = [one.endpoint for one in self.settings.listeners.values()]
        endpoints += [self.settings.lmtp.endpoint, self.settings.policy.endpoint]
        (container,) = pod("pop3gw")["containers"]
        self.assertEqual(
            {port["containerPort"] for port in container["ports"]},
            {int(endpoint.split(":")[1]) for endpoint in endpoints},
        )

    def test_services_policies_and_budgets_select_pods_and_ports_that_are_there(self) -> None:
        ports = {
            name: {port["name"] for port in pod(name)["containers"][0]["ports"]}
            for name in objects("StatefulSet")
        }
        for name, one in objects("Service").items():
            app = one["spec"]["selector"]["app"]
            for port in one["spec"]["ports"]:
                self.assertIn(port["targetPort"], ports[app], name)
        for name, one in objects("NetworkPolicy").items():
            app = one["spec"]["podSelector"]["matchLabels"]["app"]
            named = {port["port"] for rule in one["spec"]["ingress"] for port in rule["ports"]}
            self.assertEqual(named, ports[app], name)
        for kind in ("NetworkPolicy", "PodDisruptionBudget"):
            self.assertEqual(set(objects(kind)), set(SERVICES))
        for name, one in objects("StatefulSet").items():
            labels = one["spec"]["template"]["metadata"]["labels"]
            self.assertEqual(one["spec"]["selector"]["matchLabels"], labels)
            self.assertIn(one["spec"]["serviceName"], objects("Service"))
            self.assertEqual(labels, {"app": name})

    def test_inside_the_names_and_ports_of_the_configuration_are_services(self) -> None:
        inside = {
            (name, port["port"])
            for name, one in objects("Service").items()
            for port in one["spec"]["ports"]
        }
        main = (STACK / "postfix/main.cf").read_text()
        named = re.findall(r"inet:([\w-]+):(\d+)", main) + re.findall(r"//([\w-]+):(\d+)", TOML)
        self.assertLessEqual({(name, int(port)) for name, port in named}, inside)

    def test_a_stop_leaves_time_to_drain(self) -> None:
        grace = pod("pop3gw")["terminationGracePeriodSeconds"]
        self.assertGreater(grace, self.settings.limits.drain_timeout)
