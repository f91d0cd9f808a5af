"""What a node shows of itself: it counts as it works, and whoever asks gets the numbers."""
