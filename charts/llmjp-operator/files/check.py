"""What `helm test` runs in a pod, with the standard library of the operator's image.

Asks the API server whether it serves LlmJpModel, and the operator whether it is ready. Exit code 1
and a sentence for each that fails.
"""

# ruff: noqa: INP001, S310, T201 - a text to `python -c`; it prints, and its URLs are made here

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 10


def main() -> int:
    """The exit code."""
    problems = [*api_problems(os.environ, ACCOUNT), *operator_problems(os.environ)]
    for problem in problems:
        print(f"FAILED: {problem}", flush=True)
    if not problems:
        print("the API server serves LlmJpModel, and the operator is ready", flush=True)
    return int(bool(problems))


def api_problems(environ: os._Environ[str] | dict[str, str], account: Path) -> list[str]:
    """What is wrong with the API, as any pod may ask it."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    url = f"https://{host}:{port}/apis/serving.llmjp.dev/v1alpha1"
    token = (account / "token").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trust) as answer:
            served = {resource["name"] for resource in json.load(answer)["resources"]}
    except urllib.error.HTTPError as exc:
        hint = "; is the CRD installed?" if exc.code == 404 else ""
        return [f"{url}: HTTP {exc.code}{hint}"]
    except OSError as exc:
        return [f"{url}: {exc}"]
    wanted = {"llmjpmodels", "llmjpmodels/status", "llmjpmodels/scale"}
    return [f"{url} lacks {', '.join(sorted(wanted - served))}"] if wanted - served else []


def operator_problems(environ: os._Environ[str] | dict[str, str]) -> list[str]:
    """What is wrong with the operator, asked through its Service."""
    name, port = environ["LLMJP_SERVICE"], environ["LLMJP_SERVICE_PORT"]
    # Every pod has the addresses of its namespace's Services, with DNS and without.
    host = environ.get(f"{name.upper().replace('-', '_')}_SERVICE_HOST", name)
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as exc:
        return [f"{url}: HTTP {exc.code}: {exc.read().decode(errors='replace')[:500]}"]
    except OSError as exc:
        return [f"{url}: {exc}; is the operator running?"]
    return []


if __name__ == "__main__":
    sys.exit(main())
