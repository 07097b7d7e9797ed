"""Track: networks, trackers, their training and the runner.

from workflow_scripts.track import load_tracker

tracker = load_tracker("dutrack", weights="results/mini/track/weights/dutrack")
states = tracker.start(frames, boxes, sentences)   # lists, one item a sequence; frames uint8 [H,W,3] RGB
states, outputs = tracker.step(states, frames)     # outputs[i].box float xywh, .confidence, .sentence
"""

from workflow_scripts.track.registry import load_tracker

__all__ = ["load_tracker"]
