"""The release: what the workflows run is there and runs, versions agree, the changelog is told, a dry run touches nothing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from medembed import __version__
from medembed.cli import app

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def steps() -> list[tuple[str, str, dict[str, Any]]]:
    """(workflow, job, step) of all workflows."""
    loaded = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    return [
        (name, job, step)
        for name, flow in loaded.items()
        for job, told in flow["jobs"].items()
        for step in told["steps"]
    ]


COMMANDS = sorted({step["run"] for _, _, step in steps() if "run" in step})


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make`, with the environment that runs this test in place of the one that it would make."""
    said = [f"{key}={value}" for key, value in ({"VENV": sys.prefix, "INSTALLED": ""} | variables).items()]
    command = ["make", "--no-print-directory", *words, *said]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_workflows_run_something() -> None:
    assert {"ci.yml", "release.yml"} == {path.name for path in WORKFLOWS} and len(COMMANDS) >= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_a_workflow_is_a_make_target_or_a_medembed_command(line: str) -> None:
    program, name = line.split()
    assert program in ("make", "medembed")
    if program == "medembed":
        group = get_command(app)
        assert isinstance(group, typer.core.TyperGroup) and name in group.commands
        return
    planned = make("--dry-run", name)
    assert planned.returncode == 0 and planned.stdout.strip(), planned.stderr
    for line_ in planned.stdout.splitlines():
        for path in re.findall(r"(?<![\w/-])(?:tests|recipes)/[\w./-]+", line_):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("line", [line for line in COMMANDS if line in ("make release-tag", "make check-workflows")])
def test_what_costs_little_is_run_as_the_workflow_has_it(line: str) -> None:
    if line == "make check-workflows" and not (BIN / "actionlint").exists():
        pytest.skip("actionlint is not installed: `make check-workflows` brings it from GitHub")
    done = make(line.split()[1])
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_and_jobs_may_do_no_more_than_they_must() -> None:
    for name, job, step in steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), f"{name}: {job}"
    for path in WORKFLOWS:
        text, flow = path.read_text(encoding="utf-8"), yaml.safe_load(path.read_text(encoding="utf-8"))
        assert all(re.search(r"# v\d+\.\d+\.\d+$", line) for line in text.splitlines() if "uses: " in line)
        assert flow["permissions"] == {} and "concurrency" in flow and "secrets." not in text
        for job in flow["jobs"].values():
            proves = job["permissions"].get("id-token") == "write"
            assert not proves or job.get("environment") or "attestations" in job["permissions"]


def test_workflows_pass_zizmor() -> None:
    done = subprocess.run(
        [str(BIN / "zizmor"), "--offline", "--persona", "pedantic", ".github"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_tag_that_is_not_the_version_is_not_released() -> None:
    assert make("release-tag", TAG=f"v{__version__}").returncode == 0
    for tag in ("v99.0.0", 'v1"||true||"'):  # also one that a shell would run
        assert make("release-tag", TAG=tag).returncode != 0


def test_the_version_is_told_alike_wherever_it_is_told() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"]


def test_the_notes_of_a_version_are_its_part_of_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    said = make("release-notes", VERSION="Unreleased")
    assert said.returncode == 0 and said.stdout.strip() == _without_blank_lines(
        text.split("## [Unreleased]")[1].split("\n## ")[0]
    )
    nothing = make("release-notes", VERSION="98.7.6")
    assert nothing.returncode != 0 and "says nothing of 98.7.6" in nothing.stderr


def _without_blank_lines(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip())


def test_the_oldest_versions_are_the_lower_bounds_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = dict(
        line.split("==")
        for line in (ROOT / "constraints-minimum.txt").read_text(encoding="utf-8").split()
        if "==" in line
    )
    for requirement in project["dependencies"]:
        found = re.fullmatch(r"([\w-]+)>=([\d.]+).*", requirement)
        assert found, requirement
        have = oldest[found[1].replace("_", "-")]
        assert re.fullmatch(rf"{re.escape(found[2])}(\.0)*(\.\d+)*", have), f"{requirement}: {have}"
    assert not any(name.startswith(("nvidia", "cuda")) for name in oldest)


@pytest.mark.slow
def test_wheel_and_archive_hold_what_belongs_to_them_and_tell_their_commit(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in tracked:
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, checkout / path)
    for command in ("init -q", "add -A", "-c user.name=n -c user.email=e@x commit -q -m all"):
        subprocess.run(["git", *command.split()], cwd=checkout, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), "."]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    (wheel,), (archive,) = (list((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(wheel, unpacked, "zip")
    assert (unpacked / "medembed/COMMIT").read_text().strip() == commit
    for name in ("recipes/quickstart/notes.jsonl", "model_cards/model.md.jinja", "dataset_cards/dataset.md.jinja"):
        assert (unpacked / "medembed" / name).is_file()
    shutil.unpack_archive(archive, tmp_path / "source")
    inside = next((tmp_path / "source").iterdir())
    assert (inside / "tests/test_release.py").is_file() and (inside / "medembed/COMMIT").read_text().strip() == commit
    said = subprocess.run(
        [sys.executable, "-c", "from medembed.cli import main; main()", "--version"],
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == f"medembed {__version__} ({commit})"


GH = """#!/bin/sh
echo "$1 $2" >> asked
case "$2" in
view) test -e released && { test -e draft && echo true || echo false; } ;;
delete) rm released draft ;;
create) while test "$1" != --notes-file; do shift; done; cp "$2" released; shift 2; echo "$@" >> released ;;
esac
"""


def test_a_release_on_github_has_its_notes_and_files_and_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
    for name, content in {
        "medembed/__init__.py": '__version__ = "1.2.3"\n',
        "dist/a.whl": "",
        "dist/a.tar.gz": "",
        "bin/gh": GH,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "bin/gh").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def release() -> int:
        return subprocess.run(
            ["make", "release-github"], cwd=tmp_path, env=environment, capture_output=True, check=False
        ).returncode

    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.2]\n\nold\n")
    assert release() != 0 and not (tmp_path / "asked").exists()  # nothing is said of this version
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3]\n\nnew\n\n## [1.2.2]\n\nold\n")
    assert release() == 0 and release() == 0
    (tmp_path / "released").write_text("cut off")
    (tmp_path / "draft").touch()
    assert release() == 0
    first, again, anew = (
        ["release view", "release delete", "release create"],
        ["release view"],
        ["release view", "release delete", "release create"],
    )
    assert (tmp_path / "asked").read_text().split("\n")[:-1] == [*first, *again, *anew]
    assert (tmp_path / "released").read_text().split() == ["new", "dist/a.whl", "dist/a.tar.gz"]
