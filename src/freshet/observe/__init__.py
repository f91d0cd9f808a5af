"""What a node tells about itself: it counts as it works, and whoever asks gets the numbers."""
