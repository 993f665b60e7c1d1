"""The parts that talk to the world: the API server, kopf, Prometheus, the clock."""
