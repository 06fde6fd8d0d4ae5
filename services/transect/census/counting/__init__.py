"""From observations to counts, and the correction steps of each."""
