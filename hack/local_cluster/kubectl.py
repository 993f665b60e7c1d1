"""kubectl as a typed call: what scenarios use to talk to any cluster."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hack.local_cluster.errors import KubectlFailed, WaitedInVain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

Object = dict[str, Any]
"""A Kubernetes object as the API server spells it."""

CALL_TIMEOUT_S: Final = 120.0
"""No call of ours takes longer; a wait inside a call has its own, shorter, limit."""
POLL_S: Final = 0.2
"""Between two looks at a condition."""
FIELD_MANAGER: Final = "llmjp-e2e"
"""Who owns what server-side apply writes."""


NO_CONDITIONS_YET = "accessor error: <nil> is of the type <nil>"
"""What `kubectl wait` ends with where an object is so new that `conditions` is null."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl on one cluster, optionally in one namespace."""

    program: Path
    kubeconfig: Path
    namespace: str = ""
    """Empty: the kubeconfig's."""

    def within(self, namespace: str) -> Kubectl:
        """The same cluster, another default namespace."""
        return Kubectl(self.program, self.kubeconfig, namespace)

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints.

        Raises:
            KubectlFailed: exit status other than 0.
        """
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=environment(os.environ),
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise KubectlFailed(arguments, done.returncode, done.stderr)
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line, for a caller that starts the process itself (`get --watch`)."""
        namespace = [f"--namespace={self.namespace}"] if self.namespace else []
        return [str(self.program), f"--kubeconfig={self.kubeconfig}", *namespace, *arguments]

    def apply(self, *objects: Object, options: Iterable[str] = ()) -> list[Object]:
        """Server-side apply; the objects as the API server stores them."""
        if not objects:
            return []
        listing = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        printed = self(
            *("apply", "--server-side", f"--field-manager={FIELD_MANAGER}"),
            *("--filename=-", "--output=json", *options),
            stdin=json.dumps(listing),
        )
        answer: Object = json.loads(printed)
        items: list[Object] = answer["items"] if answer["kind"] == "List" else [answer]
        return items

    def get(self, *arguments: str) -> Object:
        """One object, or a list with `items`: `get("pod", "a")`, `get("pods", "-l=a=b")`."""
        answer: Object = json.loads(self("get", *arguments, "--output=json"))
        return answer

    def wait(self, target: str, condition: str, *, timeout_s: float = 60.0) -> None:
        """Until the object shows the condition: `wait("pod/a", "condition=Ready")`.

        Raises:
            WaitedInVain: it did not in time; says what the object's status was.
        """
        begun = time.monotonic()
        try:
            self("wait", target, f"--for={condition}", f"--timeout={timeout_s:.0f}s")
        except KubectlFailed as exc:
            left_s = timeout_s - (time.monotonic() - begun)
            if NO_CONDITIONS_YET in exc.stderr and left_s > 0:
                time.sleep(POLL_S)
                self.wait(target, condition, timeout_s=left_s)
                return
            if "timed out" not in exc.stderr:
                raise
            status = self("get", target, "--output=jsonpath={.status}", "--ignore-not-found")
            raise WaitedInVain(
                f"{target} {condition}", timeout_s=timeout_s, last=status or "no such object"
            ) from exc

    def patch_status(self, target: str, status: Object) -> None:
        """Merge into the status subresource, as a kubelet or a controller would."""
        patch = json.dumps({"status": status})
        self("patch", target, "--subresource=status", "--type=merge", f"--patch={patch}")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment, without a proxy: clusters of ours are on this machine (pure)."""
    ours = "127.0.0.1,localhost,198.18.0.0/15"
    direct = ",".join(filter(None, (environ.get("NO_PROXY") or environ.get("no_proxy"), ours)))
    return {**environ, "NO_PROXY": direct, "no_proxy": direct}


def wait_until(
    what: str, look: Callable[[], tuple[bool, object]], *, timeout_s: float = 60.0
) -> None:
    """Call `look` until its first value is true; the second is what it saw, for the error.

    Raises:
        WaitedInVain: it did not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        done, seen = look()
        if done:
            return
        if time.monotonic() > deadline:
            raise WaitedInVain(what, timeout_s=timeout_s, last=str(seen))
        time.sleep(POLL_S)
