"""Teach a model from a run folder: files in, files out, no database."""
