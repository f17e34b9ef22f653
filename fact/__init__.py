"""Images and networks in, labelled datasets out: faithful concept traces (FaCT, NeurIPS 2025)."""

from lazy_loader import attach as _attach

__getattr__, __dir__, __all__ = _attach(
    __name__,
    submod_attrs={
        "activations": ["neuron_activations"],
        "attribution": ["colour_explanation", "concept_maps", "logit_maps"],
        "concept_source": ["ConceptSource"],
        "contributions": ["CompletenessError", "trace_concepts"],
        "crp": ["relevance_maps"],
        "decisions": ["explain_image"],
        "encoders": ["EncoderChoice", "encoder", "upsampler"],
        "encodings": ["encode_maps"],
        "hub": ["HubCode"],
        "images": ["Geometry", "ImageDataset"],
        "intervention_summary": ["measure_interventions"],
        "interventions": ["InterventionPlan"],
        "networks": [
            "Network",
            "bcos_network",
            "load_network",
            "save_network",
            "small_bcos",
        ],
        "sae": ["TopKSAE"],
        "standard_networks": ["efficientnet_lite0", "torchvision_network"],
        "training": ["TrainingConfig", "train_topk_sae"],
        "vocabulary": ["read_groups", "read_names"],
    },
)
