"""What chunk stores cost: tiers, codecs, a remote."""
