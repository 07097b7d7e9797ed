"""The grpo stage: pair dataset, rewards, the trainer's configuration, training (TRL or EasyR1), merge of the shards, check."""
