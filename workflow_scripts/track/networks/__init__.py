"""The trackers' networks in plain PyTorch: one config dataclass and one readable file a family."""
