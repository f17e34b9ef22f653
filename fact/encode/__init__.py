"""What a foundation model sees where a concept is: encoders, encodings, sources of concepts."""
