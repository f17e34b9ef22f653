"""Networks: how they see images, their layers, architectures, files, image-text models."""
