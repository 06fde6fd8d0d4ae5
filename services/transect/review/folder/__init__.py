"""The folder of one review: what it stands on (review.json), and its population, frozen when it starts."""
