"""From the network's output to boxes: heads, overlaps, non-maximum suppression, stitching of tiles."""
