"""What the rendered sequences and the rendered pairs are drawn with, NumPy and OpenCV: one renderer for both.

sprites      coloured, textured shapes; sentences that name them
backgrounds  a textured canvas larger than the frame, and the camera that moves over it
"""
