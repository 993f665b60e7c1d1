"""A tritonserver process on this machine: found, checked, started, watched, ended."""
