"""Addresses and names of a node, as functions of its slot (pure).

A node lives in its own network namespace, joined to the host by one pair of devices. Addresses are
of 198.18.0.0/15, which RFC 2544 sets aside for tests and nobody routes, and differ between slots:
the host reaches every pod and Service of every node directly.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses of the node in slot `number`."""

    number: int

    @property
    def host(self) -> str:
        """The host, as the node sees it."""
        return f"198.18.{self.number}.1"

    @property
    def node(self) -> str:
        """The node and its API server, as the host sees them."""
        return f"198.18.{self.number}.2"

    @property
    def services(self) -> str:
        """Subnet of Services."""
        return f"198.18.{128 + self.number}.0/24"

    @property
    def first_service(self) -> str:
        """The API server, as pods see it."""
        return f"198.18.{128 + self.number}.1"

    @property
    def pods(self) -> str:
        """Subnet of pods."""
        return f"198.19.{self.number}.0/24"

    @property
    def device(self) -> str:
        """The host's end of the link."""
        return f"llmjp{self.number}"

    @property
    def cgroup(self) -> str:
        """Under which all pods run, in every cgroup hierarchy."""
        return f"llmjp-cluster-{self.number}"
