"""The files around the image: linted, valid, and telling the same story."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.containers.docker import ROOT, docker

pytestmark = pytest.mark.containers

DOCKERFILES = (ROOT / "docker" / "Dockerfile", ROOT / "docker" / "Dockerfile.cuda")
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
SCRIPTS = [ROOT / "docker" / name for name in ("build", "build-engine", "fetch-engine")] + [ROOT / "scripts" / "smoke"]
# The overlay holds patches, which are no whole resources, and kustomization.yaml is kubectl's own.
MANIFESTS = [path for path in sorted((ROOT / "deploy/kubernetes/base").glob("*.yaml")) if path.stem != "kustomization"]
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


def test_the_kustomization_lists_every_file() -> None:
    base = ROOT / "deploy" / "kubernetes" / "base"
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in base.glob("*.yaml") if path.name != "kustomization.yaml")


def test_both_images_share_everything_but_the_engine() -> None:
    """They are two files so that each builds alone; from the first stage without the engine on they are the same."""
    cpu, cuda = (path.read_text().partition(" AS runtime\n")[2].splitlines() for path in DOCKERFILES)
    own = re.compile(r"NVIDIA_|image\.description")
    assert [line for line in cpu if not own.search(line)] == [line for line in cuda if not own.search(line)]


def test_memory_limits_are_the_budget_and_the_programs_overhead() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.dist.yml").read_text())["services"]
    backend = services["backend-cpu"]
    budget = int(re.sub(r"\D", "", backend["environment"]["APP_MEM"].partition(":-")[2]))
    assert backend["mem_limit"].endswith(f":-{budget + 256}m}}")
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "base" / "backend.yaml").read_text())
    container = next(one for one in documents if one["kind"] == "StatefulSet")["spec"]["template"]["spec"][
        "containers"
    ][0]
    budget = next(int(one["value"]) for one in container["env"] if one["name"] == "APP_MEM")
    assert container["resources"]["limits"]["memory"] == f"{budget + 256}Mi"


@pytest.mark.parametrize("path", [*DOCKERFILES, *SCRIPTS, ROOT / "docker-compose.dist.yml"], ids=lambda path: path.name)
def test_nothing_is_taken_from_a_branch_that_moves(path: Path) -> None:
    assert not re.search(r":master\b|--branch|:main\b", path.read_text())
