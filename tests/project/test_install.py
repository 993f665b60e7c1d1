"""scripts/install.sh: when it makes .venv, when it upgrades it, and when it leaves it alone.

Interpreters and virtual environments are real; `pip` and `ensurepip` are replaced, because a full
installation takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.shared import ROOT

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
[project]
name = "example"
version = "1"
[tool.ruff]
line-length = 100
"""
FAKE_VENV = """\
import os, subprocess, sys
with open(os.environ["CALLS"], "a") as calls:
    print("venv", *sys.argv[1:], file=calls)
environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
command = [sys.executable, "-m", "venv", "--without-pip", *sys.argv[1:]]
sys.exit(subprocess.run(command, env=environment).returncode)
"""
FAKE_PIP = """\
import os, sys
with open(os.environ["CALLS"], "a") as calls:
    print("pip", *sys.argv[1:], file=calls)
sys.exit(int(os.environ.get("PIP_FAILS", "0")))
"""
BASE = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
NEW = ["venv", "pip"]
UPGRADE = ["pip"]
NOTHING: list[str] = []


class Checkout:
    """A folder with the script, and a record of what it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.calls = folder / "calls"
        self.fakes = folder / "fakes"
        (self.folder / "scripts").mkdir(parents=True)
        shutil.copy2(ROOT / "scripts" / "install.sh", self.folder / "scripts")
        self.write_pyproject(PYPROJECT)
        for name, text in (("venv", FAKE_VENV), ("pip", FAKE_PIP)):
            (self.fakes / name).mkdir(parents=True)
            (self.fakes / name / "__init__.py").touch()
            (self.fakes / name / "__main__.py").write_text(text, "utf-8")
        on_path = folder / "bin"
        on_path.mkdir()
        (on_path / "python3.11").symlink_to(BASE)
        self.path = f"{on_path}:/usr/bin:/bin"

    def write_pyproject(self, text: str) -> None:
        (self.folder / "pyproject.toml").write_text(text, "utf-8")

    def bin(self) -> Path:
        return self.folder / ".venv" / "bin"

    def install(
        self, path: str | None = None, fails: bool = False, **environment: str
    ) -> list[str]:
        """Run the script; return the modules that it called, in order."""
        return [line.split()[0] for line in self.run(path, fails, **environment)]

    def run(self, path: str | None = None, fails: bool = False, **environment: str) -> list[str]:
        self.calls.write_text("", "utf-8")
        done = subprocess.run(
            [self.folder / "scripts" / "install.sh"],
            env={
                "PATH": path or self.path,
                "HOME": os.environ.get("HOME", "/"),
                "CALLS": str(self.calls),
                "PYTHONPATH": str(self.fakes),
                "PIP_FAILS": "1" if fails else "0",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return self.calls.read_text("utf-8").splitlines()

    def base(self) -> str:
        """The interpreter that .venv was made from."""
        command = [str(self.bin() / "python"), "-c", "import sys; print(sys._base_executable)"]
        return os.path.realpath(subprocess.check_output(command, text=True).strip())


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_second_run_does_nothing(checkout: Checkout) -> None:
    assert checkout.install() == NEW
    assert checkout.install() == NOTHING


def test_its_own_environment_on_path_changes_nothing(checkout: Checkout) -> None:
    """The README says to put .venv/bin on PATH: .venv must not be built from itself then."""
    checkout.install()
    own = f"{checkout.bin()}:{checkout.path}"
    assert checkout.install(own) == NOTHING
    assert checkout.install(own, VIRTUAL_ENV=str(checkout.bin().parent)) == NOTHING
    assert checkout.install() == NOTHING


def test_another_environment_on_path_is_not_built_upon(checkout: Checkout, tmp_path: Path) -> None:
    other = tmp_path / "other"
    venv.create(other, symlinks=True)
    assert checkout.install(f"{other}/bin:/usr/bin:/bin") == NEW
    assert checkout.base() == BASE
    shutil.rmtree(other)
    assert checkout.install() == NOTHING


def test_python_may_name_an_environment(checkout: Checkout) -> None:
    checkout.install()
    assert checkout.install(PYTHON=str(checkout.bin() / "python")) == NOTHING


def test_new_requirements_upgrade_in_place(checkout: Checkout) -> None:
    checkout.install()
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    checkout.write_pyproject(PYPROJECT.replace('version = "1"', 'version = "2"'))
    assert checkout.install() == UPGRADE
    assert checkout.install() == NOTHING
    assert kept.exists()


def test_settings_of_tools_install_nothing(checkout: Checkout) -> None:
    checkout.install()
    checkout.write_pyproject(PYPROJECT.replace("100", "99"))
    assert checkout.install() == NOTHING


def test_an_installation_that_failed_is_repeated(checkout: Checkout) -> None:
    assert checkout.install(fails=True) == NEW
    assert checkout.install() == UPGRADE
    changed = PYPROJECT.replace('version = "1"', 'version = "2"')
    checkout.write_pyproject(changed)
    assert checkout.install(fails=True) == UPGRADE
    checkout.write_pyproject(PYPROJECT)  # half of the new requirements may be there
    assert checkout.install() == UPGRADE


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.install()
    moved = checkout.folder.with_name("moved")
    checkout.folder.rename(moved)
    checkout.folder = moved
    assert checkout.install() == NEW
    assert checkout.install() == NOTHING


def test_an_environment_without_its_interpreter_is_made_anew(checkout: Checkout) -> None:
    checkout.install()
    for link in checkout.bin().glob("python*"):
        link.unlink()
    assert checkout.install() == NEW


def test_wheels_from_a_folder(checkout: Checkout, tmp_path: Path) -> None:
    shared = tmp_path / "shared" / "wheels"
    shared.mkdir(parents=True)
    assert "--find-links ../shared/wheels" in checkout.run()[-1]
    checkout.write_pyproject(PYPROJECT.replace('version = "1"', 'version = "2"'))
    assert "--find-links" not in checkout.run(LLMJP_WHEELS="")[-1]
    checkout.write_pyproject(PYPROJECT)
    assert f"--find-links {shared}" in checkout.run(LLMJP_WHEELS=str(shared))[-1]


def test_a_folder_of_wheels_that_is_not_there_is_refused(checkout: Checkout) -> None:
    assert checkout.install(fails=True, LLMJP_WHEELS="/nowhere") == NOTHING
