"""Keys, tokens, envelopes and masking: what stands between a raw personal value and everything else."""
