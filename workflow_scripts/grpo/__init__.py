"""The grpo stage: pair dataset, rewards, trainer's configuration, training by TRL (CPU) or EasyR1 (GPU), merge of the rank shards and its check."""
