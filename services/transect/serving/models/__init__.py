"""The served model: alias follower, model slot."""
