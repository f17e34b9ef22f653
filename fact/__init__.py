"""Images and networks in, labelled datasets out: faithful concept traces (FaCT, NeurIPS 2025)."""

from lazy_loader import attach as _attach

__getattr__, __dir__, __all__ = _attach(
    __name__,
    submod_attrs={
        "traces.activations": ["neuron_activations"],
        "traces.attribution": ["colour_explanation", "concept_maps", "logit_maps"],
        "traces.concept_source": ["ConceptSource"],
        "traces.contributions": ["CompletenessError", "trace_concepts"],
        "encode.crp": ["relevance_maps"],
        "traces.decisions": ["explain_image"],
        "encode.encoders": ["EncoderChoice", "encoder", "upsampler"],
        "encode.encodings": ["encode_maps"],
        "encode.hub": ["HubCode"],
        "data.images": ["Geometry", "ImageDataset"],
        "traces.intervention_summary": ["measure_interventions"],
        "traces.interventions": ["InterventionPlan"],
        "networks.network": [
            "Network",
            "bcos_network",
            "load_network",
            "save_network",
            "small_bcos",
        ],
        "sae.model": ["TopKSAE"],
        "networks.standard": ["efficientnet_lite0", "torchvision_network"],
        "sae.optimiser": ["TrainingConfig", "train_topk_sae"],
        "data.vocabulary": ["read_groups", "read_names"],
    },
)
