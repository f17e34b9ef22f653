"""Collect what a language model gives to next tokens, at positions of texts, and which come."""

import registry
from fact import schemas
from fact.networks.requirements import needs_networks
from fact.traces.config import NextTokenConfig as Config
from fact.traces.estimates import estimate_next_tokens

stage = registry.Stage(
    "fact.collect_next_tokens",
    version=1,
    config=Config,
    needs={"texts": "texts", "model": "language_model"},
    output=schemas.NEXT_TOKENS,
    main="fact.traces.next_tokens:collect_next_tokens",
    cut_by="sequences",
    requires=needs_networks,
    estimate=estimate_next_tokens,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
