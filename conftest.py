"""For every test: fixtures of the end-to-end clusters, and profiles of Hypothesis."""

import os

from hypothesis import settings

# A server is started by fork and exec, and gRPC's handlers of forks abort the child now and then
# ("epoll_wait error: Bad file descriptor") where this process has connections open, as tests do.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# No deadlines: a busy machine is no failure. `fast` is for make check, where a test asks for no
# number of examples itself.
settings.register_profile("full", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=25)
settings.load_profile("full")

pytest_plugins = ("e2e.fixtures",)
