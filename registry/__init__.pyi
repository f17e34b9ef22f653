"""Public names of the registry, for type checkers and for the lazy imports of ``__init__``."""

from .catalog.access import Catalog, open_catalog
from .catalog.runs import RunView
from .declare.faults import ConfigError, RenamedWarning, StageError
from .declare.plugins import checks, kind
from .declare.requirements import Download, Extra, Finding, Package
from .declare.settings import Formerly, Runtime, Since
from .declare.stage import Input, Inputs, Run, Stage, listed
from .execute.experiment import run_module
from .plan.contents import content_identity
from .replicates import Replicates, compare_over, mean_over
from .store.checkpoint import Checkpoint
from .store.datasets import open_dataset, write_dataset
from .store.durable import StoreError
from .store.manifest import Provenance
from .store.schema import Schema, SchemaError, Variable
from .store.shards import Shards, ShardWriter

__all__ = [
    "Catalog",
    "Checkpoint",
    "ConfigError",
    "Download",
    "Extra",
    "Finding",
    "Formerly",
    "Input",
    "Inputs",
    "Package",
    "Provenance",
    "RenamedWarning",
    "Replicates",
    "Run",
    "RunView",
    "Runtime",
    "Schema",
    "SchemaError",
    "ShardWriter",
    "Shards",
    "Since",
    "Stage",
    "StageError",
    "StoreError",
    "Variable",
    "checks",
    "compare_over",
    "content_identity",
    "kind",
    "listed",
    "mean_over",
    "open_catalog",
    "open_dataset",
    "run_module",
    "write_dataset",
]
