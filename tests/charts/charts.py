"""helm as typed calls: the chart rendered, refused, or installed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.local_cluster import Kubectl
from hack.local_cluster.kubectl import environment
from scripts.chart_files import CHART, template
from tests.support.shared import ROOT

Object = dict[str, Any]


def options(values: Mapping[str, Any]) -> list[str]:
    """What sets the values, each under its name as `--set` spells it."""
    return [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart, and a helm that renders it."""

    helm: Path

    def render(self, values: Mapping[str, Any] | None = None, *more: str) -> list[Object]:
        """The objects, in helm's order."""
        text = template(self.helm, *options(values or {}), *more)
        return [found for found in yaml.safe_load_all(text) if found]

    def one(self, kind: str, values: Mapping[str, Any] | None = None) -> Object:
        """The only object of that kind."""
        [found] = [found for found in self.render(values) if found["kind"] == kind]
        return found

    def refusal(self, values: Mapping[str, Any]) -> str:
        """What helm says where it renders nothing."""
        try:
            rendered = template(self.helm, *options(values))
        except subprocess.CalledProcessError as exc:
            said: str = exc.stderr
            return said
        raise AssertionError(f"rendered: {rendered[:200]}")


@dataclass(frozen=True, slots=True)
class Releases:
    """helm in one namespace of a cluster."""

    helm: Path
    kubectl: Kubectl

    def __call__(self, *arguments: str) -> str:
        """What helm prints."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Likewise, whether it works or not."""
        where = [f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={self.kubectl.namespace}"]
        return subprocess.run(
            [str(self.helm), *arguments, *where],
            env=environment(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, name: str = "llmjp-operator", *more: str, chart: Path | None = None) -> str:
        """Installed or upgraded; waits for nothing, since no pod runs here."""
        return self("upgrade", "--install", name, str(chart or ROOT / CHART), *more)
