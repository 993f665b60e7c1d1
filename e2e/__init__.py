"""End-to-end scenarios and the Kubernetes they run on."""
