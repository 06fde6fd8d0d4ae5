"""The served model: alias follower, model slot, cached start."""
