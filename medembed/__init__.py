"""MedEmbed: build, prove and publish medical embedding models on the Hugging Face Hub."""

__version__ = "0.1.0"
