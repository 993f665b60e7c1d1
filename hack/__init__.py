"""What the project is developed with and no user needs: a local Kubernetes, local images."""
