"""`actlab train-sae`: small SAEs on a model's residual stream, so that the chain runs offline. No rival of SAELens."""
