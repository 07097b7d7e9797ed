"""The mini study's sequences, drawn from one seed a sequence with what workflow_scripts.drawing offers.

motion       where target, distractors and occluders are in each frame
scene        a sequence's plan, its frames and its exact labels
attributes   the 15 flags of TNLLT, computed from what was drawn
"""
