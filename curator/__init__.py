"""Curator: the web app and everything a person does."""

__version__ = "0.1.0"
