"""A tritonserver process on this machine: found, checked beforehand, started, watched, ended."""
