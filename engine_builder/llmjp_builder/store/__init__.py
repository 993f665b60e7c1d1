"""The store on disk: artefacts under their keys, leases, garbage collection, durable files."""
