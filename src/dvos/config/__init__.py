"""Settings: one pydantic model per stage, read from YAML, ``--set`` and options."""
