from __future__ import annotations

import subprocess
from ipaddress import ip_address, ip_network
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.metrics import Metrics
from tests.deploy.files import DEPLOY, DOCKERFILE, check_settings, read_yaml
from tests.deploy.tools import find_kubectl
from tests.server.test_metrics import Models

FOLDER = DEPLOY / "kubernetes"
VERSIONS = ("1.28", "1.31")
KUSTOMIZATION = read_yaml(FOLDER / "kustomization.yaml")


def deployment() -> dict[str, Any]:
    manifest: dict[str, Any] = read_yaml(FOLDER / "deployment.yaml")
    # What kustomize adds to it.
    labels = KUSTOMIZATION["labels"][0]["pairs"]
    manifest["spec"]["selector"] = {"matchLabels": labels}
    manifest["spec"]["template"]["metadata"] = {"labels": labels}
    return manifest


def test_every_file_is_listed_but_what_is_to_be_asked_for() -> None:
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    assert {path.name for path in FOLDER.iterdir()} == listed | {"optional"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in KUSTOMIZATION["resources"] if name != "podmonitor.yaml"])
def test_it_keeps_to_the_schema(name: str, version: str) -> None:
    manifest = deployment() if name == "deployment.yaml" else read_yaml(FOLDER / name)
    kubernetes_validate.validate(manifest, version, strict=True)


def test_what_kubectl_makes_of_it_keeps_to_the_schema() -> None:
    made = subprocess.run([find_kubectl(), "kustomize", FOLDER], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    manifests = list(yaml.safe_load_all(made.stdout))
    assert len(manifests) == len(KUSTOMIZATION["resources"])
    for manifest in manifests:
        if manifest["kind"] != "PodMonitor":
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "nibble"
    whole = {manifest["kind"]: manifest for manifest in manifests}
    labels = whole["Deployment"]["spec"]["template"]["metadata"]["labels"]
    port = whole["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"]
    for selector in (
        whole["Service"]["spec"]["selector"],
        whole["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        whole["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        whole["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items(), "it is about our pods"
    assert whole["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] == port
    assert whole["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port


def test_more_replicas_come_of_a_metric_that_there_is() -> None:
    (metric,) = read_yaml(FOLDER / "hpa.yaml")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in {family.name for family in Metrics(Models()).registry.collect()}


def test_the_pod_keeps_to_what_the_namespace_enforces() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    assert security["readOnlyRootFilesystem"]
    assert not pod["enableServiceLinks"], "Kubernetes would set NIBBLE_PORT"


def test_models_can_be_pulled_made_and_deleted() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
    assert not mount.get("readOnly", False)
    security = pod["securityContext"]
    # The volume's files belong to this group, and the group may write.
    assert security["fsGroup"] == security["runAsGroup"] == security["runAsUser"]
    assert f"--uid {security['runAsUser']} " in DOCKERFILE.read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_pulling_opens_the_way_out_for_our_pods_and_not_to_the_neighbours(version: str) -> None:
    policy = read_yaml(FOLDER / "optional" / "networkpolicy-pull.yaml")
    kubernetes_validate.validate(policy, version, strict=True)
    own = read_yaml(FOLDER / "networkpolicy.yaml")
    assert policy["metadata"]["name"] != own["metadata"]["name"], "one is added to the other"
    assert policy["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    assert policy["spec"]["podSelector"] == own["spec"]["podSelector"]
    assert policy["spec"]["policyTypes"] == ["Egress"]
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]
    blocks = [
        (ip_network(to["ipBlock"]["cidr"]), [ip_network(part) for part in to["ipBlock"]["except"]])
        for to in rule["to"]
    ]
    for inside in (
        "10.96.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "fd00::1",
        "fe80::1",
    ):
        address = ip_address(inside)
        assert not any(
            address in block and not any(address in part for part in parts) for block, parts in blocks
        ), inside
    for outside in ("18.64.1.1", "2600::1"):
        assert any(ip_address(outside) in block for block, _ in blocks)


def test_the_server_is_told_what_it_knows_and_may_finish() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = check_settings({item["name"]: item["value"] for item in container["env"]})
    settings.check()
    assert settings.port == container["ports"][0]["containerPort"]
    assert "nibble" in settings.allowed_hosts
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= settings.drain_s + pause_s + 5
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
