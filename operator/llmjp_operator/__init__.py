"""The operator: an LlmJpModel becomes an engine, and the engine a Deployment that serves it.

`api` is the custom resource as frozen values, `crd` what the API server is told about it. A model's
way: `observe` a snapshot, `decide`, `render` objects, `report` a status (joined by `plan`), `act`.
"""
