"""The bias-free TopK SAE: the model, its gradients and training, features, held-out losses."""
