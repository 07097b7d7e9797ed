"""Trackers: pure steps over a batch of states, one file a family; base.py says what they share."""
