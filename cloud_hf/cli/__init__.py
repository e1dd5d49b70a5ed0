"""The `cloud-hf` command: thin callers of the package."""
