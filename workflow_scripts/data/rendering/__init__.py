"""The mini study's sequences, drawn with NumPy and OpenCV from one seed a sequence.

sprites      coloured, textured shapes; sentences that name them
backgrounds  a textured canvas larger than the frame, and the camera that moves over it
motion       where target, distractors and occluders are in each frame
scene        a sequence's plan, its frames and its exact labels
attributes   the 15 flags of TNLLT, computed from what was drawn
"""
