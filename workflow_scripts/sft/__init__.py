"""Supervised fine-tuning: annotations, the base model, LLaMA-Factory's run, the check on held-out pairs."""
