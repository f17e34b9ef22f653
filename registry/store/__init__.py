"""Datasets on disk, whole or not there: netCDF, shards, manifest, digest, schema."""
