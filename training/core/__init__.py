"""What every recipe shares: configuration, resumable state, the loop, data, objectives."""
