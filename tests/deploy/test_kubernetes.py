"""The manifests are what Kubernetes wants by its own schemas, and what pgexec needs.

No cluster takes part: `kubectl` renders them, and `kubernetes-validate` brings the schemas.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with openapi-spec-validator

from pgexec.http.routes import PATHS
from pgexec.settings import Settings
from pgexec.telemetry.metrics import Metrics
from pool.engine.egress import NOT_PUBLIC
from tests.conftest import ROOT
from tests.deploy.cluster import Cluster
from tests.deploy.guide import block, stand_in, told
from tests.prometheus import names_in, promtool, sample_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.deployment

MANIFESTS = ROOT / "deploy/kubernetes"
TOOLS = ROOT / ".tools/kubernetes"
VERSIONS = ("1.30", "1.37")
"""The first where all we use is on by default, and the newest that the schemas are of."""
KINDS = {
    "node": {"ConfigMap", "DaemonSet", "Service"},
    "sidecar": {
        *("ConfigMap", "Deployment", "Service"),
        *("HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget"),
    },
}
REMOVALS_S = 15
POWERS = {"Ki": 10, "Mi": 20, "Gi": 30}


def render(overlay: str) -> str:
    kubectl = TOOLS / "bin/kubectl"
    if not kubectl.exists():
        pytest.skip("kubectl is not there: deploy/setup/kubernetes.sh gets it")
    command = [str(kubectl), "kustomize", str(MANIFESTS / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def validate(text: str, version: str) -> list[str]:
    """Return what the schemas of a version say, a line for each manifest."""
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, "-"]
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(TOOLS)},
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def size(quantity: str) -> int:
    return int(quantity[:-2]) << POWERS[quantity[-2:]]


class Rendered:
    """The manifests of an overlay, by kind."""

    def __init__(self, overlay: str) -> None:
        self.overlay = overlay
        self.text = render(overlay)
        self.all: list[Any] = list(yaml.safe_load_all(self.text))
        (workload,) = (one for one in self.all if one["kind"] in ("DaemonSet", "Deployment"))
        self.template = workload["spec"]["template"]
        self.pod = self.template["spec"]
        (self.server,) = self.pod["containers"]
        (self.config,) = (one["data"] for one in self.of("ConfigMap"))
        fields = {name.removeprefix("PGEXEC_").lower(): one for name, one in self.config.items()}
        self.settings = Settings.of(**fields)

    def of(self, kind: str) -> list[Any]:
        return [one for one in self.all if one["kind"] == kind]


@pytest.fixture(params=KINDS, scope="module")
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return Rendered(request.param)


@pytest.fixture(scope="module")
def sidecar() -> Rendered:
    return Rendered("sidecar")


# --- what Kubernetes wants ----------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_finds_nothing_wrong_with_the_manifests(
    rendered: Rendered, version: str
) -> None:
    assert {one["kind"] for one in rendered.all} == KINDS[rendered.overlay]
    told = validate(rendered.text, version)
    assert [line for line in told if not line.startswith("INFO - passed for resource ")] == []
    assert len(told) == len(rendered.all)


def test_the_schemas_know_a_misspelt_field_and_a_wrong_type(rendered: Rendered) -> None:
    for right, wrong in (
        ("terminationGracePeriodSeconds", "terminationGracePeriod"),
        ("containerPort: 8080", "containerPort: eighty"),
    ):
        assert right in rendered.text
        told = validate(rendered.text.replace(right, wrong), VERSIONS[-1])
        assert len([line for line in told if line.startswith("ERROR")]) == 1


def test_what_is_selected_is_there(rendered: Rendered) -> None:
    labels = rendered.template["metadata"]["labels"].items()
    selectors = [one["spec"]["selector"] for one in rendered.of("Service")]
    for kind in ("DaemonSet", "Deployment", "PodDisruptionBudget"):
        selectors += [one["spec"]["selector"]["matchLabels"] for one in rendered.of(kind)]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in rendered.of("NetworkPolicy")]
    assert len(selectors) >= 3
    assert [one for one in selectors if not one or not one.items() <= labels] == []

    ports = {port["name"]: port["containerPort"] for port in rendered.server["ports"]}
    assert ports == {"http": rendered.settings.port}
    used = [port["targetPort"] for one in rendered.of("Service") for port in one["spec"]["ports"]]
    used += [
        rendered.server[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")
    ]
    assert set(used) == set(ports)


# --- what pgexec wants --------------------------------------------------------------------


def test_the_environment_is_settings_and_nothing_else_sets_one(rendered: Rendered) -> None:
    named = {*rendered.config, *(one["name"] for one in rendered.server["env"])}
    known = {f"PGEXEC_{name.upper()}" for name in Settings.model_fields}
    assert named <= known
    # A Service by the name of pgexec makes the kubelet set PGEXEC_PORT to a URL.
    assert rendered.pod["enableServiceLinks"] is False


def test_a_stop_leaves_time_for_the_hook_the_delay_and_the_runs(rendered: Rendered) -> None:
    hook_s = rendered.server["lifecycle"]["preStop"]["sleep"]["seconds"]
    settings = rendered.settings
    assert settings.drain_delay_s == 5
    needed_s = hook_s + settings.drain_delay_s + settings.drain_timeout_s + REMOVALS_S
    assert rendered.pod["terminationGracePeriodSeconds"] >= needed_s


def test_the_probes_ask_for_what_they_mean(rendered: Rendered) -> None:
    asked = [
        rendered.server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")
    ]
    assert asked == ["/readyz", "/healthz"]
    assert set(asked) <= set(PATHS)


def test_the_server_has_no_rights_and_the_socket_of_an_engine(rendered: Rendered) -> None:
    allowed = rendered.server["securityContext"]
    assert allowed["runAsNonRoot"]
    assert allowed["readOnlyRootFilesystem"]
    assert not allowed["allowPrivilegeEscalation"]
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert rendered.pod["automountServiceAccountToken"] is False
    mounted = [one["mountPath"] for one in rendered.server["volumeMounts"]]
    assert any(rendered.settings.docker_host.startswith(f"unix://{path}") for path in mounted)


def test_what_is_requested_holds_the_containers_of_the_pool(rendered: Rendered) -> None:
    settings = rendered.settings
    of_pod = [rendered.server, *rendered.pod.get("initContainers", ())]
    requested = sum(size(one["resources"]["requests"]["memory"]) for one in of_pod)
    # One more for the canary.
    assert requested >= settings.memory_limit * (settings.pool_max_containers + 1)


def test_the_sidecar_s_engine_is_there_as_long_as_the_server(sidecar: Rendered) -> None:
    (engine,) = sidecar.pod["initContainers"]
    assert engine["restartPolicy"] == "Always"
    address = f"--host={sidecar.settings.docker_host}"
    assert address in engine["args"]
    assert address in engine["startupProbe"]["exec"]["command"]
    assert f"--group={sidecar.server['securityContext']['runAsGroup']}" in engine["args"]
    assert [one for one in engine["args"] if "tcp://" in one] == []
    volumes = {one["name"]: one["emptyDir"] for one in sidecar.pod["volumes"]}
    assert size(volumes["engine"]["sizeLimit"]) > sidecar.settings.dependency_cache_limit


def test_the_policy_closes_what_the_guard_closes(sidecar: Rendered) -> None:
    (policy,) = sidecar.of("NetworkPolicy")
    (*_, public) = policy["spec"]["egress"]
    (block,) = (one["ipBlock"] for one in public["to"])
    assert block["except"] == [one for one in NOT_PUBLIC if ":" not in one]


def test_the_autoscaler_has_a_metric_that_is_made_of_a_scrape(sidecar: Rendered) -> None:
    (autoscaler,) = sidecar.of("HorizontalPodAutoscaler")
    (deployment,) = sidecar.of("Deployment")
    target = autoscaler["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]  # which an update would set back
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == adapter_rule()["name"]["as"]
    metrics = Metrics()
    metrics.pool("python")
    has = sample_names(metrics.render().decode())
    assert len(names_in(load("pod"))) == 3
    assert names_in(load("pod") + adapter_rule()["seriesQuery"]) <= has


def test_the_load_of_a_pod_is_what_runs_and_waits_in_all_its_pools(tmp_path: Path) -> None:
    values = {
        'pgexec_containers{pod="one", profile="python", state="leased"}': 6,
        'pgexec_containers{pod="one", profile="python", state="idle"}': 1,
        'pgexec_containers{pod="one", profile="data", state="leased"}': 1,
        'pgexec_waiters{pod="one", profile="python"}': 1,
        'pgexec_waiters{pod="one", profile="data"}': 2,
        'pgexec_pool_max_containers{pod="one", profile="python"}': 6,
        'pgexec_pool_max_containers{pod="one", profile="data"}': 2,
        'pgexec_pool_max_containers{pod="another", profile="python"}': 6,
    }
    expected = {"labels": '{pod="one"}', "value": 10 / 8}
    test = {
        "input_series": [{"series": one, "values": f"{values[one]}x9"} for one in values],
        "promql_expr_test": [{"expr": load("pod"), "eval_time": "5m", "exp_samples": [expected]}],
    }
    (tmp_path / "tests.yml").write_text(json.dumps({"tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yml")


# --- the guide's commands -----------------------------------------------------------------


@pytest.mark.parametrize("overlay", KINDS)
async def test_kubectl_creates_all_by_the_commands_of_the_guide(
    overlay: str, tmp_path: Path
) -> None:
    """No cluster runs it; but kubectl finds nothing to object to, and sends what was rendered."""
    text = block("Several servers: Kubernetes").text
    assert text.count("overlays/sidecar") == 2
    script = text.replace("overlays/sidecar", f"overlays/{overlay}")
    rendered = Rendered(overlay)
    kubectl = [str(TOOLS / "bin/kubectl"), "--cache-dir", str(tmp_path)]
    stand_in(tmp_path / "bin", "kubectl", kubectl)
    cluster = Cluster()
    (tmp_path / "config").write_text(await cluster.start())
    try:
        lines = f"export KUBECONFIG={tmp_path}/config\nset -e\n{script}"
        await asyncio.to_thread(told, lines, ROOT, tmp_path / "bin")
    finally:
        await cluster.stop()
    namespace = cluster.created.pop("/api/v1/namespaces/pgexec")
    labels = namespace["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "privileged"}
    assert "NAME:KEY" in cluster.created.pop("/api/v1/namespaces/pgexec/secrets/pgexec")["sent"]
    assert all("/namespaces/pgexec/" in path for path in cluster.created)
    for made in cluster.created.values():
        del made["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
        del made["metadata"]["namespace"]
    created = [without_empty(one) for one in cluster.created.values()]
    assert by_name(created) == by_name([without_empty(one) for one in rendered.all])


def by_name(documents: Sequence[Any]) -> dict[tuple[str, str], Any]:
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def without_empty(document: Any) -> Any:
    metadata = {name: value for name, value in document["metadata"].items() if value}
    return {**document, "metadata": metadata}


def adapter_rule() -> Any:
    (rule,) = yaml.safe_load((MANIFESTS / "prometheus-adapter.yaml").read_text())["rules"]
    return rule


def load(by: str) -> str:
    """Return the query of the autoscaler's metric, as the adapter asks it."""
    query: str = adapter_rule()["metricsQuery"]
    return query.replace("<<.GroupBy>>", by).replace("<<.LabelMatchers>>", f'{by}="one"')
