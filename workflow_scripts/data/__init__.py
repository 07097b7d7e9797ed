"""The data stage: make or fetch sequences, verify and restore archives, read every benchmark's layout into one index."""
