"""From people's decisions to what is true of each box and photo, as far as people say."""
