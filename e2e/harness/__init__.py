"""What scenarios run on: an installation of the operator, and namespaces with models in it."""
