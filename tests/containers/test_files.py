"""The files around the image: linted, valid, and telling the same story."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rpc_wrapper.pull import resolve
from tests.containers.docker import ROOT, docker

pytestmark = pytest.mark.containers

DOCKERFILES = (ROOT / "docker" / "Dockerfile", ROOT / "docker" / "Dockerfile.cuda")
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
SCRIPTS = [ROOT / "docker" / name for name in ("build", "build-engine", "fetch-engine")] + [ROOT / "scripts" / "smoke"]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(path.parent for path in KUBERNETES.glob("*/kustomization.yaml"))
# The overlay for GPUs holds a patch, which is no whole resource, and kustomization.yaml is kubectl's own.
MANIFESTS = [path for path in sorted(KUBERNETES.glob("[!g]*/*.yaml")) if path.stem != "kustomization"]
RPC, AGENT = 50052, 50053

Rendered = dict[str, list[dict[str, Any]]]
# apt's versions are the base image's business: pinning them would break every build after a security update.
HADOLINT_IGNORES = ("DL3008",)


def tool(name: str) -> str:
    """Return the path of a linter of the dev extra; its absence is a failure that says so."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: run scripts/setup --dev")
    return found


def accept(*command: str | Path) -> None:
    """Run a linter; what it prints is the failure."""
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_dockerfiles_pass_hadolint(path: Path) -> None:
    accept(tool("hadolint"), *(f"--ignore={rule}" for rule in HADOLINT_IGNORES), path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_pass_shellcheck(path: Path) -> None:
    accept(tool("shellcheck"), path)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_manifests_are_valid(path: Path) -> None:
    accept(tool("kubernetes-validate"), "--strict", path)


def test_the_release_workflow_is_valid() -> None:
    accept(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", WORKFLOW)


def test_the_release_workflows_commands_pass_shellcheck(tmp_path: Path) -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert commands
    for number, command in enumerate(commands):
        script = tmp_path / f"{number}.sh"
        script.write_text(command)
        accept(tool("shellcheck"), "--shell=bash", script)


def test_a_release_has_the_originals_tags_for_all_platforms() -> None:
    environ = {"IMAGE": "registry.example/rpc-wrapper", "VERSION": "1.2.3"}
    said = docker("buildx", "bake", "--print", environ=environ)
    targets = json.loads(said[said.index("{\n") :])["target"]
    assert targets["cpu"]["tags"] == [f"{environ['IMAGE']}:{tag}" for tag in ("latest", "1.2.3")]
    assert targets["cuda"]["tags"] == [f"{environ['IMAGE']}:{tag}" for tag in ("latest-cuda", "1.2.3-cuda")]
    assert targets["cpu"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert targets["cuda"]["platforms"] == ["linux/amd64"]


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_the_kustomizations_list_every_file(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = {*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", ()))}
    files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert {name for name in listed if not name.startswith("../")} == files
    assert all((folder / name).resolve() in KUSTOMIZATIONS for name in listed - files)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return what kubectl would apply, by folder, each resource valid."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: nothing renders the kustomizations")
    found = {}
    for folder in KUSTOMIZATIONS:
        text = subprocess.run([kubectl, "kustomize", folder], check=True, capture_output=True, text=True).stdout
        path = tmp_path_factory.mktemp("rendered") / f"{folder.name}.yaml"
        path.write_text(text)
        accept(tool("kubernetes-validate"), "--strict", path)
        found[folder.name] = list(yaml.safe_load_all(text))
    return found


def pod(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the pod's specification in the one resource of a kind."""
    (found,) = (one for one in resources if one["kind"] == kind)
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def test_what_is_applied_is_one_namespace(rendered: Rendered) -> None:
    for resources in rendered.values():
        spaces = {one["metadata"].get("namespace") for one in resources if one["kind"] != "Namespace"}
        assert spaces in ({"rpc-wrapper"}, set())


def test_the_overlay_gives_each_backend_a_gpu_and_the_cuda_image(rendered: Rendered) -> None:
    (container,) = pod(rendered["gpu"], "StatefulSet")["containers"]
    assert container["image"] == "rpc-wrapper:latest-cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {one["name"]: one.get("value") for one in container["env"]}["APP_MODE"] == "backend"
    assert pod(rendered["gpu"], "Deployment") == pod(rendered["base"], "Deployment")


def test_every_pod_is_locked_down(rendered: Rendered) -> None:
    pods = [(name, kind) for name in ("base", "gpu") for kind in ("Deployment", "StatefulSet")] + [("pull", "Job")]
    for spec in (pod(rendered[name], kind) for name, kind in pods):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def admitted(resources: list[dict[str, Any]]) -> dict[int, set[str]]:
    """Return who may reach which port of a backend, by component or name."""
    found: dict[int, set[str]] = {}
    for policy in (one["spec"] for one in resources if one["kind"] == "NetworkPolicy"):
        if policy["podSelector"]["matchLabels"] != {"app.kubernetes.io/component": "backend"}:
            continue
        for rule in policy["ingress"]:
            guests = {value for one in rule["from"] for value in one["podSelector"]["matchLabels"].values()}
            for port in rule["ports"]:
                found.setdefault(port["port"], set()).update(guests)
    return found


def test_only_the_server_reaches_a_backend(rendered: Rendered) -> None:
    for name in ("base", "gpu"):
        assert admitted(rendered[name]) == {RPC: {"server"}, AGENT: {"server"}}


def test_prometheus_reaches_the_agents_if_it_is_let_and_never_a_worker(rendered: Rendered) -> None:
    assert admitted(rendered["prometheus"]) == {AGENT: {"prometheus"}}
    (policy,) = rendered["prometheus"]
    (guest,) = policy["spec"]["ingress"][0]["from"]
    assert guest["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_the_server_serves_the_model_that_is_pulled(rendered: Rendered) -> None:
    (puller,) = pod(rendered["pull"], "Job")["containers"]
    (server,) = pod(rendered["base"], "Deployment")["containers"]
    name, option, folder = puller["args"]
    assert option == "--output-dir"
    model = next(one["value"] for one in server["env"] if one["name"] == "APP_MODEL")
    assert model == f"{folder}/{resolve(name).file}"


def test_both_images_share_everything_but_the_engine() -> None:
    """They are two files so that each builds alone; from the first stage without the engine on they are the same."""
    cpu, cuda = (path.read_text().partition(" AS runtime\n")[2].splitlines() for path in DOCKERFILES)
    own = re.compile(r"NVIDIA_|image\.description")
    assert [line for line in cpu if not own.search(line)] == [line for line in cuda if not own.search(line)]


def test_the_document_lists_every_variable_of_the_compose_file_and_its_default() -> None:
    rows = [line for line in (ROOT / "docs" / "containers.md").read_text().splitlines() if line.startswith("| `")]
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "docker-compose.dist.yml").read_text()):
        assert any(f"`{name}`" in row and default in row for row in rows), f"{name}, by default {default}"


def test_memory_limits_are_the_budget_and_the_programs_overhead() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.dist.yml").read_text())["services"]
    backend = services["backend-cpu"]
    budget = int(re.sub(r"\D", "", backend["environment"]["APP_MEM"].partition(":-")[2]))
    assert backend["mem_limit"].endswith(f":-{budget + 256}m}}")
    documents = yaml.safe_load_all((KUBERNETES / "base" / "backend.yaml").read_text())
    container = next(one for one in documents if one["kind"] == "StatefulSet")["spec"]["template"]["spec"][
        "containers"
    ][0]
    budget = next(int(one["value"]) for one in container["env"] if one["name"] == "APP_MEM")
    assert container["resources"]["limits"]["memory"] == f"{budget + 256}Mi"


@pytest.mark.parametrize("path", [*DOCKERFILES, *SCRIPTS, ROOT / "docker-compose.dist.yml"], ids=lambda path: path.name)
def test_nothing_is_taken_from_a_branch_that_moves(path: Path) -> None:
    assert not re.search(r":master\b|--branch|:main\b", path.read_text())
