"""Track: networks, trackers, their training and the runner. The public entry is `load_tracker`."""
