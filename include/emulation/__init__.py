"""The emulators: posts drawn from the source tables and sent on their way, each record accounted for."""
