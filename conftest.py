"""Fixtures of the end-to-end clusters, for every test of the repository."""

import os

# A server is started by fork and exec, and gRPC's handlers of forks abort the child now and then
# ("epoll_wait error: Bad file descriptor") where this process has connections open, as tests do.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

pytest_plugins = ("e2e.fixtures",)
