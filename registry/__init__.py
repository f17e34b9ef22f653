"""The framework: declarations, plans, records and stores. It knows nothing of networks."""

from lazy_loader import attach as _attach

__getattr__, __dir__, __all__ = _attach(
    __name__,
    submod_attrs={
        "catalog.access": ["Catalog", "RunView", "open_catalog"],
        "plan.identity": ["content_identity"],
        "store.schema": ["Schema", "SchemaError", "Variable"],
        "declare.faults": ["ConfigError", "RenamedWarning", "StageError"],
        "declare.inputs": ["Input", "Inputs", "Run"],
        "declare.kinds": ["kind"],
        "declare.settings": ["Formerly", "Runtime", "Since"],
        "declare.stage": ["Stage"],
        "execute.command": ["run_module"],
        "store.datasets": [
            "Provenance",
            "ShardWriter",
            "Shards",
            "StoreError",
            "open_dataset",
            "write_dataset",
        ],
    },
)
