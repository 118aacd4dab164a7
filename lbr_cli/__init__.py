"""Rerank files of search candidates with a local transformers model."""

__version__ = "0.1.0"
